/* As conv_tile.h, for bfloat16 by pairs. */
#include "bfloat.h"

#define PAIRED 1
#undef TILE
#undef HELD
#define TILE 6    /* of eight, sums and what is held would not fit the registers together */
#define HELD TILE

INLINE __m512i weights_of(const entry *e) { return _mm512_set1_epi32(e->both); }
INLINE __m512i weight_of(const entry *e) { return _mm512_set1_epi32(e->pair[0]); }

INLINE sum waiting(const float *from, int r) {
    return (sum){_mm512_loadu_ps(from + r * REGISTER), _mm512_loadu_ps(from + r * REGISTER + VW)};
}

INLINE void wait(float *to, int r, sum s) {
    _mm512_storeu_ps(to + r * REGISTER, s.low);
    _mm512_storeu_ps(to + r * REGISTER + VW, s.high);
}

/* The larger; NaN stays NaN. In the lower halves of what becomes of it. */
INLINE __m512i leaves(__m512 v, float least) {
    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_max_ps(_mm512_set1_ps(least), v)));
}

INLINE void leave(const tile *t, int64_t at, sum s) {
    if (t->add) {
        const __m512i there = load32(t->add + at), none = _mm512_setzero_si512();
        s.low = _mm512_add_ps(s.low, (__m512)_mm512_unpacklo_epi16(none, there));
        s.high = _mm512_add_ps(s.high, (__m512)_mm512_unpackhi_epi16(none, there));
    }
    const __m512i whole = _mm512_packus_epi32(leaves(s.low, t->least), leaves(s.high, t->least));
    if (t->past) _mm512_stream_si512((__m512i *)(t->to + at), whole);
    else _mm512_storeu_si512(t->to + at, whole);
}

INLINE void product_row(const int R, const entry *restrict e, const entry *end, const tile *t, float bias, float *sums,
                        int64_t to) {
    if (e == end && !t->first && !t->last) return;
    sum total[TILE];
    UNROLL for (int r = 0; r < R; r++) total[r] = t->first ? spread_sum(bias) : waiting(sums, r);
    for (; e + 1 < end; e += 2) {
        const element *a = lane(t->source, e[0].at), *b = lane(t->source, e[1].at);
        const __m512i weights = weights_of(e);
        UNROLL for (int r = 0; r < R; r++)
            total[r] = add_pair(total[r], load32(a + r * REGISTER), load32(b + r * REGISTER), weights);
    }
    if (e < end) {
        const element *a = lane(t->source, e->at);
        const __m512i weights = weight_of(e), none = _mm512_setzero_si512();
        UNROLL for (int r = 0; r < R; r++) total[r] = add_pair(total[r], load32(a + r * REGISTER), none, weights);
    }
    UNROLL for (int r = 0; r < R; r++)
        if (t->last) leave(t, to + t->place[r], total[r]);
        else wait(sums, r, total[r]);
}

/* `some` (1 .. 4) entries: adds to dx, if `both`; returns the sums for dw. */
INLINE four gradients_step(const int R, const int both, const int some, const entry *e, const element *g,
                           const __m512i *held, sum *dx) {
    const __m512i none = _mm512_setzero_si512();
    __m512 dots[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    UNROLL for (int j = 0; j < some; j += 2) {
        const int two = j + 1 < some;
        const element *a = lane(g, e[j].at), *b = two ? lane(g, e[j + 1].at) : 0;
        const __m512i weights = two ? weights_of(e + j) : weight_of(e + j);
        UNROLL for (int r = 0; r < R; r++) {
            const __m512i p = load32(a + r * REGISTER), q = two ? load32(b + r * REGISTER) : none;
            dots[j] = dot(dots[j], held[r], p);
            if (two) dots[j + 1] = dot(dots[j + 1], held[r], q);
            if (both) dx[r] = add_pair(dx[r], p, q, weights);
        }
    }
    return sums_of((vec)dots[0], (vec)dots[1], (vec)dots[2], (vec)dots[3]);
}

INLINE void gradients_row(const int R, const int both, const entry *restrict e, const entry *end, const tile *t,
                          const element *restrict x, float *restrict sums, int64_t to, float *restrict dw) {
    if (e == end && !(both && (t->first || t->last))) return;
    __m512i held[TILE];
    sum total[TILE];
    UNROLL for (int r = 0; r < R; r++) {
        held[r] = load32(x + r * REGISTER);
        if (both) total[r] = t->first ? spread_sum(0) : waiting(sums, r);
    }
#define SOME(n)                                                                        \
    {                                                                                  \
        const four found = gradients_step(R, both, n, e, t->source, held, total);      \
        UNROLL for (int j = 0; j < n; j++) dw[j] += found[j];                          \
    }
    for (; e + 4 <= end; e += 4, dw += 4) SOME(4)
    if (end - e == 1) SOME(1)
    if (end - e == 2) SOME(2)
    if (end - e == 3) SOME(3)
#undef SOME
    if (both)
        UNROLL for (int r = 0; r < R; r++) {
            if (t->last) leave(t, to + t->place[r], total[r]);
            else wait(sums, r, total[r]);
        }
}
