/* The tiles of the products of a sparse linear layer: see linear.c. */
#include "kernels.h"
#include "registers.h"
#include "vector.h"
#include "step.h"

#define CACHE (512 * 1024)         /* bytes of the L2 cache that a block of columns may fill */
#define LEAST 8                    /* entries of a row that a block must have to be worth its load and store of sums */
#define AHEAD 3                    /* rows whose entries are fetched in advance: in blocks, no row continues the last */

/* Rows first .. last of w, walked block after block of columns. */
typedef struct {
    int64_t block, blocks;
    int32_t length;     /* mean number of entries of a row in a block */
    int32_t *cursor;    /* how far row first + i has come */
} walk;

INLINE walk start(const int R, const matrix *w, int64_t first, int64_t last, int32_t *cursor) {
    const int64_t block = CACHE / (R * VW * (int64_t)sizeof(element)), rows = last - first;
    const int64_t blocks = (w->width + block - 1) / block, length = (w->pointers[last] - w->pointers[first]) / rows;
    memcpy(cursor, w->pointers + first, rows * sizeof *cursor);
    const int whole = sizeof(element) == 2;    /* the sums of bfloat16 would be rounded from block to block */
    return whole || length <= LEAST * blocks ? (walk){block, 1, length, cursor}
                                            : (walk){block, blocks, length / blocks, cursor};
}

/* The first column after block b. */
INLINE int32_t end_of(const walk *s, int64_t b) { return b + 1 < s->blocks ? (b + 1) * s->block : INT32_MAX; }

INLINE void fetch(const void *from, int64_t first, int64_t entries, int64_t size) {
    for (int64_t at = 0; at <= entries * size; at += LINE) __builtin_prefetch((const char *)from + first * size + at);
}

/* Takes the entries from k on that lie before column `stop`; returns the first that does not. */
INLINE int32_t product_row(const int R, const int kind, const matrix *w, int32_t k, int32_t end, int32_t stop, int fresh,
                           float bias, panel x, element *restrict y) {
    const void *restrict columns = w->columns;
    const int32_t *restrict order = w->order;
    const float *restrict values = w->values;
    if (!fresh && (k == end || column_at(kind, columns, k) >= stop)) return k;
    const int C = CHAINS(R);
    vec total[4][TILE];
    UNROLL for (int r = 0; r < R; r++) {
        total[0][r] = fresh ? spread(bias) : load(y + r * VW);
        UNROLL for (int c = 1; c < C; c++) total[c][r] = spread(0);
    }
    for (; k + C <= end && column_at(kind, columns, k + C - 1) < stop; k += C)
        UNROLL for (int c = 0; c < C; c++) {
            const element *at = lane(x.at, column_at(kind, columns, k + c) * x.apart);
            const vec value = spread(values[value_at(kind, columns, order, k + c)]);
            UNROLL for (int r = 0; r < R; r++) total[c][r] += value * load(at + r * VW);
        }
    for (; k < end && column_at(kind, columns, k) < stop; k++) {
        const element *at = lane(x.at, column_at(kind, columns, k) * x.apart);
        const vec value = spread(values[value_at(kind, columns, order, k)]);
        UNROLL for (int r = 0; r < R; r++) total[0][r] += value * load(at + r * VW);
    }
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int c = 1; c < C; c++) total[0][r] += total[c][r];
        store(y + r * VW, total[0][r]);
    }
    return k;
}

INLINE void product_tile(const int R, const int kind, const matrix *w, int64_t first, int64_t last, const float *bias,
                         panel x, panel y, int32_t *cursor) {
    const walk s = start(R, w, first, last, cursor);
    for (int64_t b = 0; b < s.blocks; b++)
        for (int64_t o = first; o < last; o++) {
            if (s.blocks > 1 && o + AHEAD < last) {
                fetch(w->columns, cursor[o + AHEAD - first], s.length, kind == NARROW ? 2 : 4);
                if (kind == TURNED) fetch(w->order, cursor[o + AHEAD - first], s.length, 4);
                if (kind == PLAIN || kind == NARROW) fetch(w->values, cursor[o + AHEAD - first], s.length, 4);
            }
            cursor[o - first] = product_row(R, kind, w, cursor[o - first], w->pointers[o + 1], end_of(&s, b), b == 0,
                                            bias ? bias[o] : 0, x, y.at + o * y.apart);
        }
}

/* As product_row, for dw and, if `both`, dx; the first block makes dx `fresh`, the first lanes dw. */
INLINE int32_t gradients_row(const int R, const int kind, const int both, const matrix *w, int32_t k, int32_t end, int32_t stop, int fresh, int first_lanes,
                             panel g, const element *restrict x, element *restrict dx, float *restrict dw) {
    const void *restrict rows = w->columns;
    const int32_t *restrict order = w->order;
    const float *restrict values = w->values;
    if (!(fresh && both) && (k == end || column_at(kind, rows, k) >= stop)) return k;
    vec held[TILE], total[TILE], dot[4];
    UNROLL for (int r = 0; r < R; r++) held[r] = load(x + r * VW);
    if (both) UNROLL for (int r = 0; r < R; r++) total[r] = fresh ? spread(0) : load(dx + r * VW);
    for (; k + 3 < end && column_at(kind, rows, k + 3) < stop; k += 4) {
        int32_t at[4];
        UNROLL for (int j = 0; j < 4; j++) {
            at[j] = value_at(kind, rows, order, k + j);
            dot[j] = gradients_step(R, both, values[at[j]], held, lane(g.at, column_at(kind, rows, k + j) * g.apart), total);
        }
        const four sums = sums_of(dot[0], dot[1], dot[2], dot[3]);
        UNROLL for (int j = 0; j < 4; j++) dw[at[j]] = first_lanes ? sums[j] : dw[at[j]] + sums[j];
    }
    for (; k < end && column_at(kind, rows, k) < stop; k++) {
        const int32_t at = value_at(kind, rows, order, k);
        const float sum = sum_of(gradients_step(R, both, values[at], held, lane(g.at, column_at(kind, rows, k) * g.apart), total));
        dw[at] = first_lanes ? sum : dw[at] + sum;
    }
    if (both) UNROLL for (int r = 0; r < R; r++) store(dx + r * VW, total[r]);
    return k;
}

/* Adds, or if `fresh` puts, the sums of the lanes of g. */
static void sums_tile(int R, sums s, panel g, int fresh) {
    for (int64_t o = s.first; o < s.last; o++) {
        vec total = load(g.at + o * g.apart);
        for (int r = 1; r < R; r++) total += load(g.at + o * g.apart + r * VW);
        s.to[o] = (fresh ? 0 : s.to[o]) + sum_of(total);
    }
}

INLINE void gradients_tile(const int R, const int kind, const int both, const matrix *w, int64_t first, int64_t last, panel g, panel x, panel dx,
                           float *dw, int first_lanes, int32_t *cursor) {
    const walk s = start(R, w, first, last, cursor);
    for (int64_t b = 0; b < s.blocks; b++)
        for (int64_t c = first; c < last; c++) {
            if (s.blocks > 1 && c + 1 < last) {
                const int32_t next = cursor[c + 1 - first], end = w->pointers[c + 2];
                for (int32_t k = next; k < next + s.length && k < end; k++) {
                    __builtin_prefetch(w->values + value_at(kind, w->columns, w->order, k));
                    __builtin_prefetch(dw + value_at(kind, w->columns, w->order, k), 1);
                }
            }
            cursor[c - first] = gradients_row(R, kind, both, w, cursor[c - first], w->pointers[c + 1], end_of(&s, b), b == 0,
                                              first_lanes, g, x.at + c * x.apart, both ? dx.at + c * dx.apart : 0, dw);
        }
}
