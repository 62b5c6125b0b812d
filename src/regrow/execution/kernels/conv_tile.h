/* The innermost loops of a sparse convolution: one channel of the target, one tile of its lanes, which stay in registers
   while the weights pass by. For each weight and vector one load and one multiply-add. */
#if VW == 16
#include <immintrin.h>
#endif

#include "step.h"

#define REGISTER VW    /* lanes of a vector */
#define PAIRED 0

/* Sums as they wait in memory for more, or as they leave. */
INLINE vec waiting(const float *from, int r) { return sums_at(from + r * VW); }
INLINE void wait(float *to, int r, vec v) { *(many *)(to + r * VW) = v; }

/* The larger; NaN stays NaN. */
INLINE vec no_less(vec v, float least) {
    const vec low = spread(least);
    const ints under = v < low;
    return (vec)((under & (ints)low) | (~under & (ints)v));
}

INLINE void leave(const tile *t, int64_t at, vec v) {
    v = no_less(t->add ? v + load(t->add + at) : v, t->least);
#if VW == 16 && !defined(HALF)
    if (t->past) {
        _mm512_stream_ps(t->to + at, (__m512)v);
        return;
    }
#endif
    store(t->to + at, v);
}

/* Adds to the sums of this tile, `t.first` time or not; after the `t.last` they leave. */
INLINE void product_row(const int R, const entry *restrict e, const entry *end, const tile *t, float bias, float *sums,
                        int64_t to) {
    if (e == end && !t->first && !t->last) return;
    const int C = CHAINS(R);
    vec total[4][TILE];
    UNROLL for (int r = 0; r < R; r++) {
        total[0][r] = t->first ? spread(bias) : waiting(sums, r);
        UNROLL for (int c = 1; c < C; c++) total[c][r] = spread(0);
    }
    for (; e + C <= end; e += C)
        UNROLL for (int c = 0; c < C; c++) {
            const element *at = lane(t->source, e[c].at);
            const vec value = spread(e[c].value);
            UNROLL for (int r = 0; r < R; r++) total[c][r] += value * load(at + r * VW);
        }
    for (; e < end; e++) {
        const element *at = lane(t->source, e->at);
        const vec value = spread(e->value);
        UNROLL for (int r = 0; r < R; r++) total[0][r] += value * load(at + r * VW);
    }
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int c = 1; c < C; c++) total[0][r] += total[c][r];
        if (t->last) leave(t, to + t->place[r], total[0][r]);
        else wait(sums, r, total[0][r]);
    }
}

INLINE void gradients_row(const int R, const int both, const entry *restrict e, const entry *end, const tile *t,
                          const element *restrict x, float *restrict sums, int64_t to, float *restrict dw) {
    if (e == end && !(both && (t->first || t->last))) return;
    vec held[TILE], total[TILE], dot[4];
    UNROLL for (int r = 0; r < R; r++) {
        held[r] = load(x + r * VW);
        if (both) total[r] = t->first ? spread(0) : waiting(sums, r);
    }
    for (; e + 4 <= end; e += 4, dw += 4) {
        UNROLL for (int j = 0; j < 4; j++)
            dot[j] = gradients_step(R, both, e[j].value, held, lane(t->source, e[j].at), total);
        const four found = sums_of(dot[0], dot[1], dot[2], dot[3]);
        UNROLL for (int j = 0; j < 4; j++) dw[j] += found[j];
    }
    for (; e < end; e++, dw++) *dw += sum_of(gradients_step(R, both, e->value, held, lane(t->source, e->at), total));
    if (both)
        UNROLL for (int r = 0; r < R; r++) {
            if (t->last) leave(t, to + t->place[r], total[r]);
            else wait(sums, r, total[r]);
        }
}
