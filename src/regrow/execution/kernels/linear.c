/* The products of a sparse linear layer. Compiled once for every instruction set, for vectors of VW floats.

   A tile of lanes stays in registers while the surviving weights of a row pass by: for each weight and vector one
   load and one multiply-add. Columns are taken in blocks whose lanes fit the L2 cache, with a cursor in every row. */
#include "kernels.h"
#include "vector.h"

#include <stdlib.h>
#include <string.h>

#define TILE 8                       /* vectors in a tile */
#define HELD (VW == 16 ? 8 : 4)      /* vectors in a tile when two tiles share the registers */
#define CACHE (512 * 1024)           /* bytes of the L2 cache that a block of columns may fill */
#define AHEAD 3                      /* rows whose entries are fetched in advance: in blocks, no row continues the last */

/* The lanes of feature f, at + f * apart. */
typedef struct {
    float *at;
    int64_t apart;
} panel;

/* Rows first .. last of w, walked block after block of columns. */
typedef struct {
    int64_t block, blocks;
    int32_t length;     /* mean number of entries of a row in a block */
    int32_t *cursor;    /* how far row first + i has come */
} walk;

INLINE walk start(const int R, const matrix *w, int64_t first, int64_t last, int32_t *cursor) {
    const int64_t block = CACHE / (R * VW * (int64_t)sizeof(float));
    const int64_t blocks = w->width > block ? (w->width + block - 1) / block : 1;
    memcpy(cursor, w->pointers + first, (last - first) * sizeof *cursor);
    return (walk){block, blocks, (w->pointers[last] - w->pointers[first]) / ((last - first) * blocks), cursor};
}

/* The first column after block b. */
INLINE int32_t end_of(const walk *s, int64_t b) { return b + 1 < s->blocks ? (b + 1) * s->block : INT32_MAX; }

INLINE void fetch(const void *from, int32_t entries) {
    for (int32_t at = 0; at <= entries; at += 16) __builtin_prefetch((const int32_t *)from + at);
}

/* Sums kept apart, where a tile has too few vectors to hide the latency of a multiply-add. */
#define CHAINS(R) (R > 4 ? 1 : R > 1 ? 2 : 4)

/* Takes the entries from k on that lie before column `stop`; returns the first that does not. */
INLINE int32_t product_row(const int R, const int ordered, const matrix *w, int32_t k, int32_t end, int32_t stop, int fresh,
                           float bias, panel x, float *restrict y) {
    const int32_t *restrict columns = w->columns, *restrict order = w->order;
    const float *restrict values = w->values;
    if (!fresh && (k == end || columns[k] >= stop)) return k;
    const int C = CHAINS(R);
    vec total[4][TILE];
    UNROLL for (int r = 0; r < R; r++) {
        total[0][r] = fresh ? spread(bias) : load(y + r * VW);
        UNROLL for (int c = 1; c < C; c++) total[c][r] = spread(0);
    }
    for (; k + C <= end && columns[k + C - 1] < stop; k += C)
        UNROLL for (int c = 0; c < C; c++) {
            const float *at = lane(x.at, columns[k + c] * x.apart);
            const vec value = spread(values[ordered ? order[k + c] : k + c]);
            UNROLL for (int r = 0; r < R; r++) total[c][r] += value * load(at + r * VW);
        }
    for (; k < end && columns[k] < stop; k++) {
        const float *at = lane(x.at, columns[k] * x.apart);
        const vec value = spread(values[ordered ? order[k] : k]);
        UNROLL for (int r = 0; r < R; r++) total[0][r] += value * load(at + r * VW);
    }
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int c = 1; c < C; c++) total[0][r] += total[c][r];
        store(y + r * VW, total[0][r]);
    }
    return k;
}

INLINE void product_tile(const int R, const int ordered, const matrix *w, int64_t first, int64_t last, const float *bias,
                         panel x, panel y, int32_t *cursor) {
    const walk s = start(R, w, first, last, cursor);
    for (int64_t b = 0; b < s.blocks; b++)
        for (int64_t o = first; o < last; o++) {
            if (s.blocks > 1 && o + AHEAD < last) {
                fetch(w->columns + cursor[o + AHEAD - first], s.length);
                fetch((ordered ? (const void *)w->order : w->values) + cursor[o + AHEAD - first], s.length);
            }
            cursor[o - first] = product_row(R, ordered, w, cursor[o - first], w->pointers[o + 1], end_of(&s, b), b == 0,
                                            bias ? bias[o] : 0, x, y.at + o * y.apart);
        }
}

/* Adds value * g to dx; returns the products of x and g, yet to be summed. */
INLINE vec gradients_step(const int R, float value, const vec *x, const float *g, vec *dx) {
    const vec v = spread(value);
    vec dot[2] = {spread(0), spread(0)};
    UNROLL for (int r = 0; r < R; r++) {
        const vec there = load(g + r * VW);
        if (dx) dx[r] += v * there;
        dot[r % 2] += x[r] * there;
    }
    return dot[0] + dot[1];
}

/* As product_row; `fresh` of dx, `first_lanes` of dw. */
INLINE int32_t gradients_row(const int R, const matrix *w, int32_t k, int32_t end, int32_t stop, int fresh, int first_lanes,
                             panel g, const float *restrict x, float *restrict dx, float *restrict dw) {
    const int32_t *restrict rows = w->columns, *restrict order = w->order;
    const float *restrict values = w->values;
    if (!(fresh && dx) && (k == end || rows[k] >= stop)) return k;
    vec held[TILE], total[TILE], dot[4];
    UNROLL for (int r = 0; r < R; r++) held[r] = load(x + r * VW);
    if (dx) UNROLL for (int r = 0; r < R; r++) total[r] = fresh ? spread(0) : load(dx + r * VW);
    for (; k + 3 < end && rows[k + 3] < stop; k += 4) {
        UNROLL for (int j = 0; j < 4; j++)
            dot[j] = gradients_step(R, values[order[k + j]], held, lane(g.at, rows[k + j] * g.apart), dx ? total : 0);
        const four sums = sums_of(dot[0], dot[1], dot[2], dot[3]);
        UNROLL for (int j = 0; j < 4; j++) dw[order[k + j]] = first_lanes ? sums[j] : dw[order[k + j]] + sums[j];
    }
    for (; k < end && rows[k] < stop; k++) {
        const float sum =
            sum_of(gradients_step(R, values[order[k]], held, lane(g.at, rows[k] * g.apart), dx ? total : 0));
        dw[order[k]] = first_lanes ? sum : dw[order[k]] + sum;
    }
    if (dx) UNROLL for (int r = 0; r < R; r++) store(dx + r * VW, total[r]);
    return k;
}

INLINE void gradients_tile(const int R, const matrix *w, int64_t first, int64_t last, panel g, panel x, panel dx,
                           float *dw, int first_lanes, int32_t *cursor) {
    const walk s = start(R, w, first, last, cursor);
    for (int64_t b = 0; b < s.blocks; b++)
        for (int64_t c = first; c < last; c++) {
            if (s.blocks > 1 && c + 1 < last) {
                const int32_t next = cursor[c + 1 - first], end = w->pointers[c + 2];
                for (int32_t k = next; k < next + s.length && k < end; k++) {
                    __builtin_prefetch(w->values + w->order[k]);
                    __builtin_prefetch(dw + w->order[k], 1);
                }
            }
            cursor[c - first] = gradients_row(R, w, cursor[c - first], w->pointers[c + 1], end_of(&s, b), b == 0,
                                              first_lanes, g, x.at + c * x.apart, dx.at ? dx.at + c * dx.apart : 0, dw);
        }
}

/* One lane: the vectors run along the row. */
static void product_one(const matrix *w, int64_t first, int64_t last, const float *bias, const float *restrict x,
                        float *restrict y) {
    const int32_t *restrict columns = w->columns, *restrict order = w->order;
    const float *restrict values = w->values;
    for (int64_t o = first; o < last; o++) {
        const int32_t end = w->pointers[o + 1];
        int32_t k = w->pointers[o];
        float part[8] = {bias ? bias[o] : 0};
        for (; k + 8 <= end; k += 8)
            UNROLL for (int j = 0; j < 8; j++) part[j] += values[order ? order[k + j] : k + j] * x[columns[k + j]];
        for (; k < end; k++) part[0] += values[order ? order[k] : k] * x[columns[k]];
        y[o] = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
    }
}

/* The last lanes, too few for a vector: rows of VW floats, filled up with zeros. */
static void pad(const float *from, int64_t rows, int64_t n, float *to) {
    const int64_t lanes = n % VW;
    for (int64_t f = 0; f < rows; f++, to += VW) {
        memset(to, 0, VW * sizeof(float));
        memcpy(to, from + (f + 1) * n - lanes, lanes * sizeof(float));
    }
}

static void unpad(const float *from, int64_t rows, int64_t n, float *to) {
    const int64_t lanes = n % VW;
    for (int64_t f = 0; f < rows; f++, from += VW) memcpy(to + (f + 1) * n - lanes, from, lanes * sizeof(float));
}

/* A cursor for every row, and `floats` more; freed together. */
static int32_t *scratch(int64_t rows, int64_t floats) { return malloc((rows + floats + 1) * 4); }

static int product(const matrix *w, int64_t first, int64_t last, const float *bias, const float *x, float *y, int64_t n) {
    if (n == 1) return product_one(w, first, last, bias, x, y), 0;
    const int64_t rows = last - first, full = n - n % VW;
    int32_t *cursor = scratch(rows, full < n ? (w->width + rows) * VW : 0);
    if (!cursor) return 1;
    for (int64_t at = 0; at < full; at += TILE * VW)
        switch (full - at < TILE * VW ? (full - at) / VW : TILE) {
#define WITH(R)                                                                                                           \
    case R:                                                                                                               \
        if (w->order) product_tile(R, 1, w, first, last, bias, (panel){(float *)x + at, n}, (panel){y + at, n}, cursor);  \
        else product_tile(R, 0, w, first, last, bias, (panel){(float *)x + at, n}, (panel){y + at, n}, cursor);           \
        break;
            WITH(1) WITH(2) WITH(3) WITH(4) WITH(5) WITH(6) WITH(7) WITH(8)
#undef WITH
        }
    if (full < n) {
        float *tail = (float *)(cursor + rows), *result = tail + w->width * VW;
        pad(x, w->width, n, tail);
        product_tile(1, w->order != 0, w, first, last, bias, (panel){tail, VW}, (panel){result - first * VW, VW}, cursor);
        unpad(result, rows, n, y + first * n);
    }
    free(cursor);
    return 0;
}

static int gradients(const matrix *w, int64_t first, int64_t last, const float *g, const float *x, float *dx, float *dw,
                     int64_t n) {
    const int64_t rows = last - first, full = n - n % VW;
    int32_t *cursor = scratch(rows, full < n ? (w->width + 2 * rows) * VW : 0);
    if (!cursor) return 1;
    for (int64_t at = 0; at < full; at += HELD * VW)
        switch (full - at < HELD * VW ? (full - at) / VW : HELD) {
#define WITH(R)                                                                                                           \
    case R:                                                                                                               \
        if (R > HELD) __builtin_unreachable();                                                                            \
        if (dx) gradients_tile(R, w, first, last, (panel){(float *)g + at, n}, (panel){(float *)x + at, n},               \
                               (panel){dx + at, n}, dw, at == 0, cursor);                                                 \
        else gradients_tile(R, w, first, last, (panel){(float *)g + at, n}, (panel){(float *)x + at, n}, (panel){0, 0},   \
                            dw, at == 0, cursor);                                                                         \
        break;
            WITH(1) WITH(2) WITH(3) WITH(4) WITH(5) WITH(6) WITH(7) WITH(8)
#undef WITH
        }
    if (full < n) {
        float *tail = (float *)(cursor + rows), *own = tail + w->width * VW, *result = own + rows * VW;
        pad(g, w->width, n, tail);
        pad(x + first * n, rows, n, own);
        gradients_tile(1, w, first, last, (panel){tail, VW}, (panel){own - first * VW, VW},
                       dx ? (panel){result - first * VW, VW} : (panel){0, 0}, dw, full == 0, cursor);
        if (dx) unpad(result, rows, n, dx + first * n);
    }
    free(cursor);
    return 0;
}

static void sums(int64_t first, int64_t last, const float *g, float *total, int64_t n) {
    for (int64_t o = first; o < last; o++) {
        const float *row = g + o * n;
        vec part[4] = {spread(0), spread(0), spread(0), spread(0)};
        int64_t at = 0;
        for (; at + 4 * VW <= n; at += 4 * VW)
            UNROLL for (int r = 0; r < 4; r++) part[r] += load(row + at + r * VW);
        const four four_sums = sums_of(part[0], part[1], part[2], part[3]);
        float rest = 0;
        for (; at < n; at++) rest += row[at];
        total[o] = ((four_sums[0] + four_sums[1]) + (four_sums[2] + four_sums[3])) + rest;
    }
}

#define NAME_(isa) regrow_##isa
#define NAME(isa) NAME_(isa)
const kernels NAME(ISA) = {product, gradients, sums};
