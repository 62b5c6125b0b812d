/* Flagged vectors. AVX-512 packs and spreads sixteen entries at a time; elsewhere a loop without branches does. */
#include "sieve.h"

#if VW == 16
#include <immintrin.h>

static inline __m512i keys(__m512i bits) {
    const __m512i size = _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MAX)), sign = _mm512_srai_epi32(bits, 31);
    const __m512i key = _mm512_sub_epi32(_mm512_xor_si512(size, sign), sign);
    return _mm512_mask_set1_epi32(key, _mm512_cmpgt_epi32_mask(size, _mm512_set1_epi32(INFINITE)), ~INFINITE);
}

static inline __mmask16 flagged(const uint8_t *flags) {
    const __m128i bytes = _mm_loadu_si128((const __m128i *)flags);
    return _mm_test_epi8_mask(bytes, bytes);
}
#endif

static int64_t between(const float *score, int64_t n, int32_t low, int32_t high, float *to, int64_t room, int64_t *above) {
    int64_t found = 0, higher = 0, k = 0;
#if VW == 16
    for (; k + VW <= n && found + VW <= room; k += VW) {
        const __m512i bits = _mm512_loadu_si512(score + k), key = keys(bits);
        const __mmask16 over = _mm512_cmpgt_epi32_mask(key, _mm512_set1_epi32(high));
        const __mmask16 here = _mm512_cmpge_epi32_mask(key, _mm512_set1_epi32(low)) & ~over;
        if (here) _mm512_storeu_si512(to + found, _mm512_maskz_compress_epi32(here, bits));
        found += __builtin_popcount(here);
        higher += __builtin_popcount(over);
    }
#endif
    for (; k < n; k++) {
        const int32_t here = key(score[k]);
        if (found < room) to[found] = score[k];
        found += (here >= low) & (here <= high);
        higher += here > high;
    }
    *above = higher;
    return found;
}

static int64_t flag(const float *score, int64_t n, int32_t worst, uint8_t *flags) {
    int64_t found = 0, k = 0;
#if VW == 16
    for (; k + VW <= n; k += VW) {
        const __mmask16 here = _mm512_cmpge_epi32_mask(keys(_mm512_loadu_si512(score + k)), _mm512_set1_epi32(worst));
        _mm_storeu_si128((__m128i *)(flags + k), _mm_maskz_set1_epi8(here, 1));
        found += __builtin_popcount(here);
    }
#endif
    for (; k < n; k++) found += flags[k] = key(score[k]) >= worst;
    return found;
}

#define ONLY(type)                                                                 \
    for (; found < count; k++) {                                                   \
        ((type *)to)[found] = ((const type *)from)[k];                             \
        found += flags[k];                                                         \
    }

static void only(const void *from, const uint8_t *flags, int64_t count, int size, void *to) {
    int64_t found = 0, k = 0;
#if VW == 16
    for (; size == 4 && found + VW <= count; k += VW) {
        const __mmask16 here = flagged(flags + k);
        const __m512i kept = _mm512_maskz_compress_epi32(here, _mm512_loadu_si512((const int32_t *)from + k));
        _mm512_storeu_si512((int32_t *)to + found, kept);
        found += __builtin_popcount(here);
    }
#endif
    if (size == 8) ONLY(int64_t)
    else if (size == 4) ONLY(int32_t)
    else if (size == 2) ONLY(int16_t)
    else ONLY(int8_t)
}

#define SPREAD(type)                                                               \
    for (; k < n; k++) {                                                           \
        const type out = -(type)flags[k];    /* all ones where it is flagged */    \
        ((type *)to)[k] = (((const type *)from)[taken] & out) | (*(const type *)other & ~out); \
        taken += flags[k];                                                         \
    }

static void spread(const void *from, const uint8_t *flags, int64_t n, int size, const void *other, void *to) {
    int64_t taken = 0, k = 0;
#if VW == 16
    const __m512i rest = _mm512_set1_epi32(size == 4 ? *(const int32_t *)other : 0);
    for (; size == 4 && k + VW <= n; k += VW) {
        const __mmask16 here = flagged(flags + k);
        const __m512i next = _mm512_loadu_si512((const int32_t *)from + taken);
        _mm512_storeu_si512((int32_t *)to + k, _mm512_mask_expand_epi32(rest, here, next));
        taken += __builtin_popcount(here);
    }
#endif
    if (size == 8) SPREAD(int64_t)
    else if (size == 4) SPREAD(int32_t)
    else if (size == 2) SPREAD(int16_t)
    else SPREAD(int8_t)
}

#define NAME_(isa) regrow_sieve_##isa
#define NAME(isa) NAME_(isa)
const sieve NAME(ISA) = {between, flag, only, spread};
