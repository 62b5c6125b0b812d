/* The passes of a sparse convolution: see conv.h. Compiled for every instruction set, and with HALF for bfloat16.

   A unit of work is a strip of columns of some lanes, walked down row by row. Each source row is laid once into a ring
   of panels, padding and phases included, so that a tile of target lanes in registers needs one load and one
   multiply-add for each weight and vector, at an offset that is known beforehand. */
#include "conv.h"
#include "registers.h"
#include "vector.h"

#define AHEAD 2    /* channels whose lanes are fetched in advance */

/* Rows y .. last, columns (of each phase) t .. end, lanes at .. at + lanes. */
typedef struct {
    int64_t y, last, t, end, at, lanes;
} unit;

static unit unit_of(const pass *p, int64_t i) {
    const int64_t sheet = i % p->sheets, strip = i / p->sheets % p->strips, chunk = i / p->sheets / p->strips;
    const int64_t rest = p->n - sheet * p->lanes;
    return (unit){p->target.height * chunk / p->chunks, p->target.height * (chunk + 1) / p->chunks,
                  strip * p->columns, (strip + 1) * p->columns, sheet * p->lanes, rest < p->lanes ? rest : p->lanes};
}

/* How many columns of phase `f` lie before `end`. */
static int64_t count(const image *x, const comb *c, int64_t f, int64_t end) {
    const int64_t all = (x->width - c->start[f] + c->step - 1) / c->step;
    return all < end ? all : end;
}

/* Lays `columns` columns, `step` elements apart, of `lanes` elements next to each other, `wide` apart. What lies `ahead`
   is fetched meanwhile. */
static void gather(const element *restrict from, int64_t step, int64_t columns, int64_t lanes, int64_t wide, int64_t ahead,
                   element *restrict to) {
    if (lanes == wide && lanes % VW == 0)
        for (int64_t i = 0; i < columns; i++)
            for (int64_t v = 0; v < lanes; v += VW) {
                __builtin_prefetch(from + i * step + v + ahead, 0, 2);
                *(loose *)(to + i * wide + v) = *(const loose *)(from + i * step + v);
            }
    else if (lanes == wide && lanes == step) memcpy(to, from, columns * lanes * sizeof *to);
    else
        for (int64_t i = 0; i < columns; i++) {
            memcpy(to + i * wide, from + i * step, lanes * sizeof *to);
            memset(to + i * wide + lanes, 0, (wide - lanes) * sizeof *to);
        }
}

/* One row of x, from column t of each phase on: `columns` of them as [channel][phase][column][lane], zeros outside. */
static void fill(const pass *p, const image *x, const comb *c, int64_t row, int64_t t, int64_t columns, const unit *u,
                 element *to) {
    const int64_t apart = x->height * x->width * p->n;
    for (int64_t f = 0; f < c->phases; f++) {
        int64_t first = t, last = count(x, c, f, t + columns);
        while (first * c->step + c->start[f] < 0) first++;
        if (first > last) first = last = t;
        const int64_t before = (first - t) * p->lanes, filled = (last - t) * p->lanes;
        const element *from = (const element *)x->at + (row * x->width + first * c->step + c->start[f]) * p->n + u->at;
        for (int64_t i = 0; i < x->channels; i++) {
            element *here = to + (i * c->phases + f) * p->pitch;
            memset(here, 0, before * sizeof *here);
            gather(from + i * apart, c->step * p->n, last - first, u->lanes, p->lanes, AHEAD * apart, here + before);
            memset(here + filled, 0, (p->pitch - filled) * sizeof *here);
        }
    }
}

/* The larger; NaN stays NaN. */
INLINE vec no_less(vec v, float least) {
    const vec low = spread(least);
    const ints under = v < low;
    return (vec)((under & (ints)low) | (~under & (ints)v));
}

/* Stores `lanes` sums, with what is added to them, or null. */
static void put(element *to, const float *from, const element *add, float least, int64_t lanes) {
    int64_t i = 0;
    for (; i + VW <= lanes; i += VW)
        store(to + i, no_less(add ? sums_at(from + i) + load(add + i) : sums_at(from + i), least));
    if (i < lanes) {
        element rest[VW], other[VW] = {0};
        if (add) memcpy(other, add + i, (lanes - i) * sizeof *add);
        store(rest, no_less(add ? sums_at(from + i) + load(other) : sums_at(from + i), least));
        memcpy(to + i, rest, (lanes - i) * sizeof *to);
    }
}

/* Phase f of row y of the target, from its sums [channel][pitch]. */
static void hand_over(const pass *p, const unit *u, int64_t y, int64_t f, int64_t columns, const float *sums) {
    const image *x = &p->target;
    const int64_t step = p->to.step * p->n;
    element *to = (element *)x->at + (y * x->width + u->t * p->to.step + p->to.start[f]) * p->n + u->at;
    const int64_t apart = x->height * x->width * p->n;
    const element *add = p->add ? (const element *)p->add + (to - (element *)x->at) : 0;
    for (int64_t i = 0; i < x->channels; i++, to += apart, add += add ? apart : 0, sums += p->pitch)
        if (step == u->lanes && step == p->lanes) put(to, sums, add, p->least, columns * step);
        else
            for (int64_t c = 0; c < columns; c++) {
                __builtin_prefetch(to + AHEAD * apart + c * step, 1, 2);
                if (add) __builtin_prefetch(add + AHEAD * apart + c * step, 0, 2);
                put(to + c * step, sums + c * p->lanes, add ? add + c * step : 0, p->least, u->lanes);
            }
}

INLINE void product_row(const int R, const entry *restrict e, const entry *end, const element *restrict x, int fresh,
                        float bias, float *restrict y) {
    if (!fresh && e == end) return;
    const int C = CHAINS(R);
    vec total[4][TILE];
    UNROLL for (int r = 0; r < R; r++) {
        total[0][r] = fresh ? spread(bias) : sums_at(y + r * VW);
        UNROLL for (int c = 1; c < C; c++) total[c][r] = spread(0);
    }
    for (; e + C <= end; e += C)
        UNROLL for (int c = 0; c < C; c++) {
            const element *at = lane(x, e[c].at);
            const vec value = spread(e[c].value);
            UNROLL for (int r = 0; r < R; r++) total[c][r] += value * load(at + r * VW);
        }
    for (; e < end; e++) {
        const element *at = lane(x, e->at);
        const vec value = spread(e->value);
        UNROLL for (int r = 0; r < R; r++) total[0][r] += value * load(at + r * VW);
    }
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int c = 1; c < C; c++) total[0][r] += total[c][r];
        *(many *)(y + r * VW) = total[0][r];
    }
}

/* Adds value * g to dx, if `both`; returns the products of x and g, yet to be summed. */
INLINE vec gradients_step(const int R, const int both, float value, const vec *x, const element *g, vec *dx) {
    const vec v = spread(value);
    vec dot[2] = {spread(0), spread(0)};
    UNROLL for (int r = 0; r < R; r++) {
        const vec there = load(g + r * VW);
        if (both) dx[r] += v * there;
        dot[r % 2] += x[r] * there;
    }
    return dot[0] + dot[1];
}

INLINE void gradients_row(const int R, const int both, const entry *restrict e, const entry *end,
                          const element *restrict g, const element *restrict x, int fresh, float *restrict dx,
                          float *restrict dw) {
    if (!(fresh && both) && e == end) return;
    vec held[TILE], total[TILE], dot[4];
    UNROLL for (int r = 0; r < R; r++) {
        held[r] = load(x + r * VW);
        if (both) total[r] = fresh ? spread(0) : sums_at(dx + r * VW);
    }
    for (; e + 4 <= end; e += 4, dw += 4) {
        UNROLL for (int j = 0; j < 4; j++) dot[j] = gradients_step(R, both, e[j].value, held, lane(g, e[j].at), total);
        const four sums = sums_of(dot[0], dot[1], dot[2], dot[3]);
        UNROLL for (int j = 0; j < 4; j++) dw[j] += sums[j];
    }
    for (; e < end; e++, dw++) *dw += sum_of(gradients_step(R, both, e->value, held, lane(g, e->at), total));
    if (both) UNROLL for (int r = 0; r < R; r++) *(many *)(dx + r * VW) = total[r];
}

/* A tile of the target's row: the entries of one tap and block for all channels. */
typedef struct {
    const int32_t *begin;
    const element *source, *held;
    float *sums, *dw;
    int fresh;
} tile;

INLINE void product_tile(const int R, const pass *p, tile t) {
    for (int64_t o = 0; o < p->target.channels; o++)
        product_row(R, p->entries + t.begin[o], p->entries + t.begin[o + 1], t.source, t.fresh, p->bias ? p->bias[o] : 0,
                    t.sums + o * p->pitch);
}

INLINE void gradients_tile(const int R, const int both, const pass *p, tile t) {
    for (int64_t c = 0; c < p->target.channels; c++)
        gradients_row(R, both, p->entries + t.begin[c], p->entries + t.begin[c + 1], t.source, t.held + c * p->pitch,
                      t.fresh, t.sums + c * p->pitch, t.dw + t.begin[c]);
}

static void run_tile(const pass *p, int64_t R, tile t) {
#define CASE(r)                                              \
    case r:                                                  \
        if (!t.dw) product_tile(r, p, t);                    \
        else if (r > HELD) __builtin_unreachable();          \
        else if (p->target.at) gradients_tile(r, 1, p, t);   \
        else gradients_tile(r, 0, p, t);                     \
        break;
    switch (R) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
}

/* The source row of a tap, or -1. */
static int64_t row_of(const pass *p, int64_t y, int64_t k) {
    const int64_t at = p->row[0] * y + p->row[1] * k + p->row[2];
    return at < 0 || at % p->row[3] || at / p->row[3] >= p->source.height ? -1 : at / p->row[3];
}

/* A thread's memory: of the source `slots` rows, of what is held and of sums one row. */
typedef struct {
    element *ring, *held;
    float *sums;
    int64_t rows[MOST * MOST];    /* what is in the ring */
} room;

static int64_t panel_of(const pass *p) { return p->source.channels * p->from.phases * p->pitch; }

static int64_t room_bytes(const pass *p) {
    const int64_t row = p->target.channels * p->pitch;
    return lines(sizeof(room)) + lines((p->slots * panel_of(p) + TILE * VW) * sizeof(element)) +
           lines((row + TILE * VW) * sizeof(element)) + lines((row + TILE * VW) * sizeof(float));
}

static room *room_at(const pass *p, void *memory) {
    room *r = memory;
    r->ring = (element *)((char *)memory + lines(sizeof *r));
    r->held = r->ring + lines((p->slots * panel_of(p) + TILE * VW) * sizeof(element)) / (int64_t)sizeof(element);
    r->sums = (float *)(r->held + lines((p->target.channels * p->pitch + TILE * VW) * sizeof(element)) / (int64_t)sizeof(element));
    return r;
}

static void run_row(const pass *p, const unit *u, int64_t y, float *dw, room *r) {
    const element *source[MOST];
    const int64_t widest = (dw ? HELD : TILE) * VW;
    for (int64_t k = 0; k < p->taps; k++) {
        const int64_t row = row_of(p, y, k), slot = row % p->slots;
        element *panel = r->ring + slot * panel_of(p);
        source[k] = row < 0 ? 0 : panel;
        if (row < 0 || r->rows[slot] == row) continue;
        fill(p, &p->source, &p->from, row, u->t, p->columns + p->reach, u, panel);
        r->rows[slot] = row;
    }
    for (int64_t f = 0; f < p->to.phases; f++) {
        const int64_t columns = count(&p->target, &p->to, f, u->end) - u->t, lanes = columns * p->lanes;
        if (columns <= 0) continue;
        if (dw) {
            const comb one = {1, p->to.step, {p->to.start[f]}};
            fill(p, &p->held, &one, y, u->t, columns, u, r->held);
        }
        for (int64_t at = 0; at < lanes; at += widest) {
            const int64_t R = ((lanes - at < widest ? lanes - at : widest) + VW - 1) / VW;
            tile t = {0, 0, r->held + at, r->sums + at, dw, 1};
            for (int64_t k = 0; k < p->taps; k++)
                for (int64_t b = 0; source[k] && b < p->blocks; b++) {
                    t.begin = p->begin + ((k * p->blocks + b) * p->to.phases + f) * p->target.channels;
                    t.source = source[k] + at;
                    run_tile(p, R, t);
                    t.fresh = 0;
                }
            for (int64_t o = 0; t.fresh && p->target.at && o < p->target.channels; o++)    /* a row that nothing reaches */
                for (int64_t v = 0; v < R; v++) *(many *)(t.sums + o * p->pitch + v * VW) = spread(p->bias ? p->bias[o] : 0);
        }
        if (p->target.at) hand_over(p, u, y, f, columns, r->sums);
    }
}

static void run(const pass *p, int64_t first, int64_t last, float *dw, void *memory) {
    room *r = room_at(p, memory);
    for (int64_t i = first; i < last; i++) {
        const unit u = unit_of(p, i);
        for (int64_t s = 0; s < p->slots; s++) r->rows[s] = -1;
        for (int64_t y = u.y; y < u.last; y++) run_row(p, &u, y, dw, r);
    }
}

static void product(const pass *p, int64_t first, int64_t last, void *memory) { run(p, first, last, 0, memory); }

static void gradients(const pass *p, int64_t first, int64_t last, float *dw, void *memory) {
    run(p, first, last, dw, memory);
}

static void channel_sums(const image *g, int64_t n, int64_t first, int64_t last, float *to) {
    const int64_t size = g->height * g->width * n;
    for (int64_t c = first; c < last; c++) {
        const element *at = (const element *)g->at + c * size;
        vec total[4] = {spread(0), spread(0), spread(0), spread(0)};
        int64_t i = 0;
        for (; i + 4 * VW <= size; i += 4 * VW)
            UNROLL for (int j = 0; j < 4; j++) total[j] += load(at + i + j * VW);
        for (; i < size; i += VW) {
            element rest[VW] = {0};
            memcpy(rest, at + i, (size - i < VW ? size - i : VW) * sizeof *at);
            total[0] += load(rest);
        }
        to[c] = sum_of((total[0] + total[1]) + (total[2] + total[3]));
    }
}

#define NAME_(isa) regrow_conv_##isa
#define NAME(isa) NAME_(isa)
const convolver NAME(ISA) = {VW, room_bytes, product, gradients, channel_sums};
