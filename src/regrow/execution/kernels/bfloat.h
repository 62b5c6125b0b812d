/* bfloat16 by pairs, on processors with AVX-512 bfloat16 dot products: vdpbf16ps multiplies pairs and adds both products
   to a float. Forward, a pair is two weights, whose lanes are interleaved in registers; for dw, it is two neighbouring
   lanes. Weights are rounded to bfloat16. */
#include <immintrin.h>

#define REGISTER 32    /* lanes of a vector */

/* Sums of the lanes of a register, in the order in which unpacking leaves them. */
typedef struct {
    __m512 low, high;
} sum;

INLINE __m512i load32(const uint16_t *from) { return (__m512i)in_register((vec)_mm512_loadu_si512(from)); }
INLINE __m512 dot(__m512 to, __m512i a, __m512i b) { return _mm512_dpbf16_ps(to, (__m512bh)a, (__m512bh)b); }
INLINE sum spread_sum(float s) { return (sum){_mm512_set1_ps(s), _mm512_set1_ps(s)}; }

INLINE sum add_pair(sum s, __m512i a, __m512i b, __m512i weights) {
    s.low = dot(s.low, _mm512_unpacklo_epi16(a, b), weights);
    s.high = dot(s.high, _mm512_unpackhi_epi16(a, b), weights);
    return s;
}
