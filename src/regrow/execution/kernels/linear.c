/* The products of a sparse linear layer. Compiled for every instruction set, for vectors of VW floats, and once more
   with HALF for bfloat16 activations, which are widened as they are loaded: half the traffic, the same arithmetic.

   A tile of lanes stays in registers while the surviving weights of a row pass by: for each weight and vector one
   load and one multiply-add. Columns are taken in blocks whose lanes fit the L2 cache, with a cursor in every row. */
#include "tile.h"

#include <stdlib.h>

/* The one element of a lane of its own. */
INLINE float load_one(const element *from) {
    element filled[VW] = {*from};
    return load(filled)[0];
}

INLINE void store_one(element *to, float v) {
    element filled[VW];
    store(filled, spread(v));
    *to = filled[0];
}

/* One lane: sums run along the row. */
static void product_one(const matrix *w, int64_t first, int64_t last, const float *bias, const element *restrict x,
                        element *restrict y) {
    const int32_t *restrict columns = w->columns, *restrict order = w->order;
    const float *restrict values = w->values;
    for (int64_t o = first; o < last; o++) {
        const int32_t end = w->pointers[o + 1];
        int32_t k = w->pointers[o];
        float part[8] = {bias ? bias[o] : 0};
        for (; k + 8 <= end; k += 8)
            UNROLL for (int j = 0; j < 8; j++)
                part[j] += values[order ? order[k + j] : k + j] * load_one(x + columns[k + j]);
        for (; k < end; k++) part[0] += values[order ? order[k] : k] * load_one(x + columns[k]);
        store_one(y + o, ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7])));
    }
}

/* A cursor for every row, and room for elements; freed together. */
static int32_t *scratch(int64_t rows, int64_t elements) { return malloc((rows + 1) * 4 + elements * sizeof(element)); }

static int product(const matrix *w, int64_t first, int64_t last, const float *bias, const void *from, void *to, int64_t n) {
    element *x = (element *)from, *y = to;
    if (n == 1) return product_one(w, first, last, bias, x, y), 0;
    const int64_t rows = last - first, full = n - n % VW;
    int32_t *cursor = scratch(rows, full < n ? (w->width + rows) * VW : 0);
    if (!cursor) return 1;
    for (int64_t at = 0; at < full; at += TILE * VW) {
        const panel in = {x + at, n}, out = {y + at, n};
        switch (full - at < TILE * VW ? (full - at) / VW : TILE) {
#define WITH(R)                                                               \
    case R:                                                                   \
        if (w->order) product_tile(R, 1, w, first, last, bias, in, out, cursor); \
        else product_tile(R, 0, w, first, last, bias, in, out, cursor);       \
        break;
            WITH(1) WITH(2) WITH(3) WITH(4) WITH(5) WITH(6) WITH(7) WITH(8)
#undef WITH
        }
    }
    if (full < n) {
        element *tail = (element *)(cursor + rows), *result = tail + w->width * VW;
        pad(x, w->width, n, VW, tail);
        product_tile(1, w->order != 0, w, first, last, bias, (panel){tail, VW}, (panel){result - first * VW, VW}, cursor);
        unpad(result, rows, n, VW, y + first * n);
    }
    free(cursor);
    return 0;
}

static int gradients(const matrix *w, int64_t first, int64_t last, const void *from, const void *by, void *to, float *dw,
                     int64_t n) {
    element *g = (element *)from, *x = (element *)by, *dx = to;
    const int64_t rows = last - first, full = n - n % VW;
    int32_t *cursor = scratch(rows, full < n ? (w->width + 2 * rows) * VW : 0);
    if (!cursor) return 1;
    for (int64_t at = 0; at < full; at += HELD * VW) {
        const panel in = {g + at, n}, own = {x + at, n}, out = {dx ? dx + at : 0, n};
        switch (full - at < HELD * VW ? (full - at) / VW : HELD) {
#define WITH(R)                                                                  \
    case R:                                                                      \
        if (R > HELD) __builtin_unreachable();                                   \
        if (dx) gradients_tile(R, 1, w, first, last, in, own, out, dw, at == 0, cursor); \
        else gradients_tile(R, 0, w, first, last, in, own, out, dw, at == 0, cursor);    \
        break;
            WITH(1) WITH(2) WITH(3) WITH(4) WITH(5) WITH(6) WITH(7) WITH(8)
#undef WITH
        }
    }
    if (full < n) {
        element *tail = (element *)(cursor + rows), *own = tail + w->width * VW, *result = own + rows * VW;
        pad(g, w->width, n, VW, tail);
        pad(x + first * n, rows, n, VW, own);
        const panel in = {tail, VW}, mine = {own - first * VW, VW}, out = {result - first * VW, VW};
        if (dx) gradients_tile(1, 1, w, first, last, in, mine, out, dw, full == 0, cursor);
        else gradients_tile(1, 0, w, first, last, in, mine, out, dw, full == 0, cursor);
        if (dx) unpad(result, rows, n, VW, dx + first * n);
    }
    free(cursor);
    return 0;
}

static void sums(int64_t first, int64_t last, const void *from, float *total, int64_t n) {
    for (int64_t o = first; o < last; o++) {
        const element *row = (const element *)from + o * n;
        vec part[4] = {spread(0), spread(0), spread(0), spread(0)};
        int64_t at = 0;
        for (; at + 4 * VW <= n; at += 4 * VW)
            UNROLL for (int r = 0; r < 4; r++) part[r] += load(row + at + r * VW);
        const four whole = sums_of(part[0], part[1], part[2], part[3]);
        float rest = 0;
        for (; at < n; at++) rest += load_one(row + at);
        total[o] = ((whole[0] + whole[1]) + (whole[2] + whole[3])) + rest;
    }
}

#define NAME_(isa) regrow_##isa
#define NAME(isa) NAME_(isa)
const kernels NAME(ISA) = {product, gradients, sums};
