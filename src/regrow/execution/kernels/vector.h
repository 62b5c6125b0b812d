/* Vectors of VW floats, in the vector extensions that GCC and Clang share. */
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef float vec __attribute__((vector_size(4 * VW)));
typedef float four __attribute__((vector_size(16)));
typedef float eight __attribute__((vector_size(32)));
INLINE vec spread(float s) { return s - (vec){0}; }

/* Activations: float, or bfloat16 which is a float's upper half. */
#ifdef HALF
typedef uint16_t element;
typedef uint32_t bits __attribute__((vector_size(4 * VW)));
typedef uint16_t loose __attribute__((vector_size(2 * VW), aligned(2), may_alias));
INLINE vec load(const element *from) { return (vec)(__builtin_convertvector(*(const loose *)from, bits) << 16); }
/* Rounds to nearest, ties to even; a NaN stays one. */
INLINE void store(element *to, vec v) {
    const bits b = (bits)v, nan = (bits)(v != v);
    const bits rounded = (b + 0x7fff + ((b >> 16) & 1)) >> 16;
    *(loose *)to = __builtin_convertvector((rounded & ~nan) | (0x7fc0 & nan), loose);
}
#else
typedef float element;
typedef float loose __attribute__((vector_size(4 * VW), aligned(4), may_alias));
INLINE vec load(const element *from) { return *(const loose *)from; }
INLINE void store(element *to, vec v) { *(loose *)to = v; }
#endif

/* An address in one register: compilers would re-associate it into one addition per load. */
INLINE const element *lane(const element *base, int64_t offset) {
    base += offset;
    __asm__("" : "+r"(base));
    return base;
}

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t which __attribute__((vector_size(4 * VW)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (which){__VA_ARGS__})
#endif
/* In every group g of four: elements i and i + 1 of a and b in turn; and of a, then of b. */
#define IN_TURN(g, i) 4 * g + i, VW + 4 * g + i, 4 * g + i + 1, VW + 4 * g + i + 1
#define IN_PAIRS(g, i) 4 * g + i, 4 * g + i + 1, VW + 4 * g + i, VW + 4 * g + i + 1
#if VW == 16
#define GROUPS(F, i) F(0, i), F(1, i), F(2, i), F(3, i)
#elif VW == 8
#define GROUPS(F, i) F(0, i), F(1, i)
#else
#define GROUPS(F, i) F(0, i)
#endif

/* The sums of four vectors, each in the same order of additions. */
INLINE four sums_of(vec a, vec b, vec c, vec d) {
    const vec ab = SHUFFLE(a, b, GROUPS(IN_TURN, 0)) + SHUFFLE(a, b, GROUPS(IN_TURN, 2));
    const vec cd = SHUFFLE(c, d, GROUPS(IN_TURN, 0)) + SHUFFLE(c, d, GROUPS(IN_TURN, 2));
    const vec abcd = SHUFFLE(ab, cd, GROUPS(IN_PAIRS, 0)) + SHUFFLE(ab, cd, GROUPS(IN_PAIRS, 2));
#if VW == 16
    const union { vec whole; eight half[2]; } u = {abcd};
    const union { eight whole; four half[2]; } h = {u.half[0] + u.half[1]};
    return h.half[0] + h.half[1];
#elif VW == 8
    const union { vec whole; four half[2]; } h = {abcd};
    return h.half[0] + h.half[1];
#else
    return abcd;
#endif
}

INLINE float sum_of(vec v) {
    const vec zero = {0};
    return sums_of(v, zero, zero, zero)[0];
}

/* The last lanes, too few for `wide`: as rows of `wide` elements, filled up with zeros. */
INLINE void pad(const element *from, int64_t rows, int64_t n, int64_t wide, element *to) {
    const int64_t lanes = n % wide;
    for (int64_t f = 0; f < rows; f++, to += wide) {
        memset(to, 0, wide * sizeof *to);
        memcpy(to, from + (f + 1) * n - lanes, lanes * sizeof *to);
    }
}

INLINE void unpad(const element *from, int64_t rows, int64_t n, int64_t wide, element *to) {
    const int64_t lanes = n % wide;
    for (int64_t f = 0; f < rows; f++, from += wide) memcpy(to + (f + 1) * n - lanes, from, lanes * sizeof *to);
}
