/* A tile of filters and taps stays in registers while the lanes pass by. Compiled for every instruction set, and with PAIRS
   for bfloat16. */
#include "dots.h"

#include "kernels.h"
#include "vector.h"

#define SIDE (VW == 16 ? 8 : 4)    /* channels of g in a tile: their lanes stay in the first cache */
#define TAPS (VW > 4 ? 3 : 2)      /* windows of x in it, neighbours mostly: one way of theirs serves all */

#ifdef PAIRS
#include "bfloat.h"
typedef __m512i piece;    /* a register of lanes */
INLINE piece whole(const element *from) { return load32(from); }
INLINE vec add(vec sum, piece a, piece b) { return (vec)dot((__m512)sum, a, b); }
#else
#define REGISTER VW
typedef vec piece;
INLINE piece whole(const element *from) { return in_register(load(from)); }
INLINE vec add(vec sum, piece a, piece b) { return sum + a * b; }
#endif

/* `some` elements, and zeros. */
INLINE piece part(const element *from, int64_t some) {
    if (some == REGISTER) return whole(from);
    element all[REGISTER] = {0};
    memcpy(all, from, some * sizeof *from);
    return whole(all);
}

/* Lanes k .. k + some. */
INLINE void step(const element *const *g, const element *const *x, int64_t k, int64_t some, vec (*sum)[TAPS]) {
    piece here[TAPS];
    UNROLL for (int t = 0; t < TAPS; t++) here[t] = part(x[t] + k, some);
    UNROLL for (int r = 0; r < SIDE; r++) {
        const piece there = part(g[r] + k, some);
        UNROLL for (int t = 0; t < TAPS; t++) sum[r][t] = add(sum[r][t], there, here[t]);
    }
}

INLINE void tile(const element *const *g, const element *const *x, int64_t lines, int64_t lanes, int64_t line, int64_t row,
                 float (*to)[TAPS]) {
    vec sum[SIDE][TAPS];
    UNROLL for (int r = 0; r < SIDE; r++) UNROLL for (int t = 0; t < TAPS; t++) sum[r][t] = spread(0);
    for (int64_t y = 0; y < lines; y++) {
        const element *from[SIDE], *with[TAPS];
        UNROLL for (int r = 0; r < SIDE; r++) from[r] = g[r] + y * line;
        UNROLL for (int t = 0; t < TAPS; t++) with[t] = x[t] + y * row;
        int64_t k = 0;
        for (; k + REGISTER <= lanes; k += REGISTER) step(from, with, k, REGISTER, sum);
        if (k < lanes) step(from, with, k, lanes - k, sum);
    }
    UNROLL for (int r = 0; r < SIDE; r += 4)
        UNROLL for (int t = 0; t < TAPS; t++) {
            const four found = sums_of(sum[r][t], sum[r + 1][t], sum[r + 2][t], sum[r + 3][t]);
            UNROLL for (int i = 0; i < 4; i++) to[r + i][t] = found[i];
        }
}

#define NAME_(isa) regrow_dots_##isa
#define NAME(isa) NAME_(isa)
/* Where a tile is not full, its last row or window fills it up, for nothing. */
void NAME(ISA)(const void *g, int64_t apart, int64_t count, const windows *w, int64_t lines, int64_t lanes, int64_t line,
               float *to) {
    const int64_t width = w->channels * w->taps;
    for (int64_t r = 0; r < count; r += SIDE) {
        const element *rows[SIDE];
        for (int64_t i = 0; i < SIDE; i++) rows[i] = (const element *)g + (r + i < count ? r + i : count - 1) * apart;
        for (int64_t j = 0; j < width; j += TAPS) {
            const element *at[TAPS];
            float found[SIDE][TAPS];
            for (int64_t i = 0; i < TAPS; i++) {
                const int64_t which = j + i < width ? j + i : width - 1;
                at[i] = (const element *)w->x + which / w->taps * w->channel + w->tap[which % w->taps];
            }
            tile(rows, at, lines, lanes, line, w->row, found);
            for (int64_t i = 0; i < SIDE && r + i < count; i++)
                for (int64_t t = 0; t < TAPS && j + t < width; t++) to[(r + i) * width + j + t] += found[i][t];
        }
    }
}
