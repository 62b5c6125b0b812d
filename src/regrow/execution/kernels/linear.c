/* The products of a sparse linear layer. Compiled for every instruction set, for vectors of VW floats, and once more
   with HALF for bfloat16 activations, which are widened as they are loaded: half the traffic, the same arithmetic.

   A tile of lanes stays in registers while the surviving weights of a row pass by: for each weight and vector one
   load and one multiply-add. Columns are taken in blocks whose lanes fit the L2 cache, with a cursor in every row. */
#include "tile.h"

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
INLINE void product_one(const int kind, const matrix *w, int64_t first, int64_t last, const float *bias, const element *restrict x,
                        element *restrict y) {
    const void *restrict columns = w->columns;
    const int32_t *restrict order = w->order;
    const float *restrict values = w->values;
    for (int64_t o = first; o < last; o++) {
        const int32_t end = w->pointers[o + 1];
        int32_t k = w->pointers[o];
        float part[8] = {bias ? bias[o] : 0};
        for (; k + 8 <= end; k += 8)
            UNROLL for (int j = 0; j < 8; j++)
                part[j] += values[value_at(kind, columns, order, k + j)] * load_one(x + column_at(kind, columns, k + j));
        for (; k < end; k++) part[0] += values[value_at(kind, columns, order, k)] * load_one(x + column_at(kind, columns, k));
        store_one(y + o, ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7])));
    }
}

/* Scratch: a cursor for every row, and from `elements_of` on room for elements. */
static int32_t *scratch(int64_t rows, int64_t elements) {
    return regrow_scratch(lines(rows * sizeof(int32_t)) + elements * sizeof(element));
}

static element *elements_of(int32_t *cursor, int64_t rows) {
    return (element *)((char *)cursor + lines(rows * sizeof *cursor));
}

#define OF_KIND(WITH, ...)                                       \
    switch (w->kind) {                                           \
    case PLAIN: WITH(PLAIN, ##__VA_ARGS__); break;               \
    case TURNED: WITH(TURNED, ##__VA_ARGS__); break;             \
    case NARROW: WITH(NARROW, ##__VA_ARGS__); break;             \
    default: WITH(NARROW_TURNED, ##__VA_ARGS__);                 \
    }
#define EACH(WITH) WITH(1) WITH(2) WITH(3) WITH(4) WITH(5) WITH(6) WITH(7) WITH(8)

static int product(const matrix *w, int64_t first, int64_t last, const float *bias, batch x, void *to, int64_t n) {
    if (n == 1) {
#define WITH(kind) product_one(kind, w, first, last, bias, x.at, to)
        OF_KIND(WITH)
#undef WITH
        return 0;
    }
    const batch y = {to, 0};
    const int64_t rows = last - first, own = room_for(x, w->width, n, VW, TILE * VW);
    int32_t *cursor = scratch(rows, own + room_for(y, rows, n, VW, TILE * VW));
    if (!cursor) return 1;
    element *room = elements_of(cursor, rows);
    for (int64_t at = 0; at < n; at += TILE * VW) {
        const span s = span_of(n, at, VW, TILE * VW);
        const panel in = take(x, w->width, s, 0, w->width, room), out = place(y, s, first, room + own);
        switch (s.wide / VW) {
#define TILE_OF(kind, R) product_tile(R, kind, w, first, last, bias, in, out, cursor)
#define WITH(R)              \
    case R:                  \
        OF_KIND(TILE_OF, R); \
        break;
            EACH(WITH)
#undef WITH
#undef TILE_OF
        }
        give(y, w->rows, s, first, last, out);
    }
    return 0;
}

static int gradients(const matrix *w, int64_t first, int64_t last, batch g, batch x, void *to, float *dw, sums db, int64_t n) {
    const batch dx = {to, x.rows};
    const int64_t rows = last - first, all = room_for(g, w->width, n, VW, HELD * VW),
                  own = room_for(x, rows < CHUNK ? rows : CHUNK, n, VW, HELD * VW);
    int32_t *cursor = scratch(rows, all + 2 * own);
    if (!cursor) return 1;
    element *room = elements_of(cursor, rows);
    for (int64_t at = 0; at < n; at += HELD * VW) {
        const span s = span_of(n, at, VW, HELD * VW);
        const panel in = take(g, w->width, s, 0, w->width, room);
        for (int64_t c = first, end; c < last; c = end) {
            end = as_it_is(x, s) || c + CHUNK > last ? last : c + CHUNK;
            const panel held = take(x, w->rows, s, c, end, room + all), out = place(dx, s, c, room + all + own);
            switch (s.wide / VW) {
#define TILE_OF(R, kind)                                                                   \
    if (to) gradients_tile(R, kind, 1, w, c, end, in, held, out, dw, at == 0, cursor); \
    else gradients_tile(R, kind, 0, w, c, end, in, held, out, dw, at == 0, cursor)
#define WITH(R)                                                   \
    case R:                                                       \
        if (R > HELD) __builtin_unreachable();                    \
        if (w->kind == TURNED) { TILE_OF(R, TURNED); }            \
        else { TILE_OF(R, NARROW_TURNED); }                       \
        break;
                EACH(WITH)
#undef WITH
#undef TILE_OF
            }
            if (to) give(dx, w->rows, s, c, end, out);
        }
        if (db.to) sums_tile(s.wide / VW, db, in, at == 0);
    }
    return 0;
}

#define NAME_(isa) regrow_##isa
#define NAME(isa) NAME_(isa)
const kernels NAME(ISA) = {product, gradients};
