/* The products of a sparse linear layer for bfloat16 activations, by pairs. */
#include "kernels.h"
#define VW 16
#define HALF
#include "vector.h"
#include "bfloat.h"

#define TILE 4    /* vectors in a tile */

INLINE void store_sum(uint16_t *to, sum s) {
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(s.low));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(s.high));
    _mm512_storeu_si512(to, _mm512_packus_epi32(low, high));
}

INLINE __m512i two(uint16_t a, uint16_t b) { return _mm512_set1_epi32(a | (uint32_t)b << 16); }

INLINE __m512i next_two(const uint16_t *weights) {
    int32_t both;    /* one load that broadcasts */
    memcpy(&both, weights, sizeof both);
    return _mm512_set1_epi32(both);
}

INLINE void product_row(const int R, const int kind, const matrix *w, int32_t k, int32_t end, const uint16_t *weights, float bias, panel x,
                        uint16_t *y) {
    const void *columns = w->columns;
    sum total[TILE];
    UNROLL for (int r = 0; r < R; r++) total[r] = spread_sum(bias);
    for (; k + 1 < end; k += 2, weights += 2) {
        const uint16_t *a = lane(x.at, column_at(kind, columns, k) * x.apart), *b = lane(x.at, column_at(kind, columns, k + 1) * x.apart);
        const __m512i pair = next_two(weights);
        UNROLL for (int r = 0; r < R; r++)
            total[r] = add_pair(total[r], load32(a + r * REGISTER), load32(b + r * REGISTER), pair);
    }
    if (k < end) {
        const uint16_t *a = lane(x.at, column_at(kind, columns, k) * x.apart);
        const __m512i none = _mm512_setzero_si512(), single = two(weights[0], 0);
        UNROLL for (int r = 0; r < R; r++) total[r] = add_pair(total[r], load32(a + r * REGISTER), none, single);
    }
    UNROLL for (int r = 0; r < R; r++) store_sum(y + r * REGISTER, total[r]);
}

/* `some` (1 .. 4) entries: adds to dx, if `with_dx`; returns the sums for dw. */
INLINE four gradients_step(const int R, const int kind, const int with_dx, const int some, const void *rows, int32_t k,
                           const int32_t *at, const uint16_t *weights, panel g, const __m512i *held, sum *dx) {
    const __m512i none = _mm512_setzero_si512();
    __m512 dots[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    UNROLL for (int j = 0; j < some; j += 2) {
        const int both = j + 1 < some;
        const uint16_t *a = lane(g.at, column_at(kind, rows, k + j) * g.apart);
        const uint16_t *b = both ? lane(g.at, column_at(kind, rows, k + j + 1) * g.apart) : 0;
        const __m512i pair = two(weights[at[j]], both ? weights[at[j + 1]] : 0);
        UNROLL for (int r = 0; r < R; r++) {
            const __m512i p = load32(a + r * REGISTER), q = both ? load32(b + r * REGISTER) : none;
            dots[j] = dot(dots[j], held[r], p);
            if (both) dots[j + 1] = dot(dots[j + 1], held[r], q);
            if (with_dx) dx[r] = add_pair(dx[r], p, q, pair);
        }
    }
    return sums_of((vec)dots[0], (vec)dots[1], (vec)dots[2], (vec)dots[3]);
}

INLINE void write(float *dw, const int32_t *at, int some, four sums, int fresh) {
    UNROLL for (int j = 0; j < some; j++) dw[at[j]] = fresh ? sums[j] : dw[at[j]] + sums[j];
}

INLINE void gradients_row(const int R, const int kind, const int with_dx, const matrix *w, int32_t k, int32_t end,
                          const uint16_t *weights, int fresh, panel g, const uint16_t *x, uint16_t *dx, float *dw) {
    const void *rows = w->columns;
    const int32_t *order = w->order;
    __m512i held[TILE];
    sum total[TILE];
    UNROLL for (int r = 0; r < R; r++) {
        held[r] = load32(x + r * REGISTER);
        total[r] = spread_sum(0);
    }
#define SOME(n)                                                                                               \
    {                                                                                                         \
        int32_t at[n];                                                                                        \
        UNROLL for (int j = 0; j < n; j++) at[j] = value_at(kind, rows, order, k + j);                        \
        write(dw, at, n, gradients_step(R, kind, with_dx, n, rows, k, at, weights, g, held, total), fresh);   \
    }
    for (; k + 3 < end; k += 4) SOME(4)
    if (end - k == 1) SOME(1)
    if (end - k == 2) SOME(2)
    if (end - k == 3) SOME(3)
#undef SOME
    if (with_dx) UNROLL for (int r = 0; r < R; r++) store_sum(dx + r * REGISTER, total[r]);
}

/* In scratch: room for `elements`, then the values of entries first .. last, in the order of the entries if `ordered`,
   rounded. */
static uint16_t *rounded(const matrix *w, int ordered, int32_t first, int32_t last, int64_t elements) {
    uint16_t *room = regrow_scratch((elements + last - first) * sizeof(uint16_t)), *weights = room ? room + elements : 0;
    for (int32_t k = first; weights && k < last; k += 16) {
        const int some = last - k < 16 ? last - k : 16;
        const __mmask16 mask = (1 << some) - 1;
        float own[16];
        for (int j = 0; ordered && j < some; j++)
            own[j] = w->values[w->kind == TURNED ? value_at(TURNED, w->columns, w->order, k + j)
                                                 : value_at(NARROW_TURNED, w->columns, w->order, k + j)];
        const __m512 whole = _mm512_maskz_loadu_ps(mask, ordered ? own : w->values + k);
        _mm256_mask_storeu_epi16(weights + (k - first), mask, (__m256i)_mm512_cvtneps_pbh(whole));
    }
    return weights;
}

INLINE void product_tile(const int R, const int kind, const matrix *w, int64_t first, int64_t last, const uint16_t *weights,
                         const float *bias, panel x, panel y) {
    const int32_t *pointers = w->pointers;
    for (int64_t o = first; o < last; o++)
        product_row(R, kind, w, pointers[o], pointers[o + 1], weights + (pointers[o] - pointers[first]), bias ? bias[o] : 0, x,
                    y.at + o * y.apart);
}

INLINE void gradients_tile(const int R, const int kind, const int with_dx, const matrix *w, int64_t first, int64_t last, const uint16_t *weights, panel g,
                           panel x, panel dx, float *dw, int fresh) {
    const int32_t *pointers = w->pointers;
    for (int64_t c = first; c < last; c++)
        gradients_row(R, kind, with_dx, w, pointers[c], pointers[c + 1], weights, fresh, g,
                      x.at + c * x.apart, with_dx ? dx.at + c * dx.apart : 0, dw);
}

INLINE vec lanes_sum(const int R, const uint16_t *g) {
    __m512 total = _mm512_setzero_ps();
    for (int r = 0; r < R; r++) total = dot(total, load32(g + r * REGISTER), _mm512_set1_epi16(0x3f80));
    return (vec)total;
}

/* Adds, or if `fresh` puts, the sums of the lanes of g. */
static void sums_tile(int R, sums s, panel g, int fresh) {
    for (int64_t o = s.first; o < s.last; o += 4) {
        vec part[4];
        UNROLL for (int j = 0; j < 4; j++) part[j] = o + j < s.last ? lanes_sum(R, g.at + (o + j) * g.apart) : spread(0);
        const four whole = sums_of(part[0], part[1], part[2], part[3]);
        for (int j = 0; j < 4 && o + j < s.last; j++) s.to[o + j] = (fresh ? 0 : s.to[o + j]) + whole[j];
    }
}

static int product(const matrix *w, int64_t first, int64_t last, const float *bias, batch x, void *to, int64_t n) {
    if (n == 1) return regrow_avx512_half.product(w, first, last, bias, x, to, n);
    const batch y = {to, 0};
    const int64_t rows = last - first, own = room_for(x, w->width, n, REGISTER, TILE * REGISTER);
    const int64_t elements = own + room_for(y, rows, n, REGISTER, TILE * REGISTER);
    const int turned = w->kind == TURNED || w->kind == NARROW_TURNED;
    uint16_t *weights = rounded(w, turned, w->pointers[first], w->pointers[last], elements);
    if (!weights) return 1;
    uint16_t *room = weights - elements;
    for (int64_t at = 0; at < n; at += TILE * REGISTER) {
        const span s = span_of(n, at, REGISTER, TILE * REGISTER);
        const panel in = take(x, w->width, s, 0, w->width, room), out = place(y, s, first, room + own);
        switch (s.wide / REGISTER) {
#define TILE_OF(R, kind) product_tile(R, kind, w, first, last, weights, bias, in, out)
#define WITH(R)                                                 \
    case R:                                                     \
        if (w->kind == NARROW) TILE_OF(R, NARROW);              \
        else if (w->kind == PLAIN) TILE_OF(R, PLAIN);           \
        else if (w->kind == TURNED) TILE_OF(R, TURNED);         \
        else TILE_OF(R, NARROW_TURNED);                         \
        break;
            WITH(1) WITH(2) WITH(3) WITH(4)
#undef WITH
#undef TILE_OF
        }
        give(y, w->rows, s, first, last, out);
    }
    return 0;
}

static int gradients(const matrix *w, int64_t first, int64_t last, batch g, batch x, void *to, float *dw, sums db, int64_t n) {
    const batch dx = {to, x.rows};
    const int64_t rows = last - first, all = room_for(g, w->width, n, REGISTER, TILE * REGISTER),
                  own = room_for(x, rows < CHUNK ? rows : CHUNK, n, REGISTER, TILE * REGISTER);
    uint16_t *weights = rounded(w, 0, 0, w->pointers[w->rows], all + 2 * own);
    if (!weights) return 1;
    uint16_t *room = weights - all - 2 * own;
    for (int64_t at = 0; at < n; at += TILE * REGISTER) {
        const span s = span_of(n, at, REGISTER, TILE * REGISTER);
        const panel in = take(g, w->width, s, 0, w->width, room);
        for (int64_t c = first, end; c < last; c = end) {
            end = as_it_is(x, s) || c + CHUNK > last ? last : c + CHUNK;
            const panel held = take(x, w->rows, s, c, end, room + all), out = place(dx, s, c, room + all + own);
            switch (s.wide / REGISTER) {
#define TILE_OF(R, kind)                                                                        \
    if (to) gradients_tile(R, kind, 1, w, c, end, weights, in, held, out, dw, at == 0);         \
    else gradients_tile(R, kind, 0, w, c, end, weights, in, held, out, dw, at == 0)
#define WITH(R)                                        \
    case R:                                            \
        if (w->kind == TURNED) { TILE_OF(R, TURNED); } \
        else { TILE_OF(R, NARROW_TURNED); }            \
        break;
                WITH(1) WITH(2) WITH(3) WITH(4)
#undef WITH
#undef TILE_OF
            }
            if (to) give(dx, w->rows, s, c, end, out);
        }
        if (db.to) sums_tile(s.wide / REGISTER, db, in, at == 0);
    }
    return 0;
}

const kernels regrow_avx512bf16_half = {product, gradients};
