/* The passes of a sparse convolution: see conv.h. Compiled for every instruction set, and with HALF for bfloat16.

   A unit of work is a strip of columns of some lanes, walked down row by row. Each source row is laid once into a ring
   of panels, padding and phases included, so that a tile of target lanes in registers needs one load and one
   multiply-add for each weight and vector, at an offset that is known beforehand. */
#include "conv.h"
#include "registers.h"
#include "vector.h"

#define WHOLE (VW * (int64_t)sizeof(float) / (int64_t)sizeof(element))    /* elements of a register */
typedef element whole __attribute__((vector_size(4 * VW), aligned(sizeof(element)), may_alias));
#define AHEAD 2             /* channels whose lanes are fetched in advance */
#define LARGE (8 << 20)     /* bytes of an image that no cache would keep for whoever reads it next */

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
    if (lanes == wide && lanes % WHOLE == 0)
        for (int64_t i = 0; i < columns; i++)
            for (int64_t v = 0; v < lanes; v += WHOLE) {
                __builtin_prefetch(from + i * step + v + ahead, 0, 2);
                *(whole *)(to + i * wide + v) = *(const whole *)(from + i * step + v);
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

/* A tile of the target's row, and the entries of one tap and block for all channels. */
typedef struct {
    const int32_t *begin;
    const element *source, *held;
    float *sums, *dw;              /* sums wait there, [channel][WIDEST], between the `first` entries and the `last` */
    element *to;                   /* and leave for here: vector r of channel o to o * apart + place[r] */
    const element *add;            /* with what is at the same place, unless it is null, */
    float least;                   /* and no less than this */
    int64_t apart, place[MOST];
    int first, last, past;         /* do they leave past the caches, in whole lines? */
} tile;

#ifdef PAIRS
#include "conv_pairs.h"
#else
#include "conv_tile.h"
#endif

#define WIDEST (TILE * REGISTER)

INLINE void product_tile(const int R, const pass *p, const tile *t) {
    for (int64_t o = 0; o < p->target.channels; o++)
        product_row(R, p->entries + t->begin[o], p->entries + t->begin[o + 1], t, p->bias ? p->bias[o] : 0,
                    t->sums + o * WIDEST, o * t->apart);
}

INLINE void gradients_tile(const int R, const int both, const pass *p, const tile *t) {
    for (int64_t c = 0; c < p->target.channels; c++)
        gradients_row(R, both, p->entries + t->begin[c], p->entries + t->begin[c + 1], t, t->held + c * p->pitch,
                      t->sums + c * WIDEST, c * t->apart, t->dw + t->begin[c]);
}

static void run_tile(const pass *p, int64_t R, const tile *t) {
#define CASE(r)                                              \
    case r:                                                  \
        if (r > TILE) __builtin_unreachable();               \
        else if (!t->dw) product_tile(r, p, t);              \
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

/* A thread's memory: `slots` rows of the source, one of what is held, of the sums a tile, and of what they become. */
typedef struct {
    element *ring, *held, *stage, *other;    /* and a tile of what is added to them */
    float *sums;
    int32_t *nothing;             /* where the entries of no channel begin */
    int64_t rows[MOST * MOST];    /* what is in the ring */
} room;

static int64_t panel_of(const pass *p) { return p->source.channels * p->from.phases * p->pitch; }

/* Lays out a room in `memory`; returns its bytes. */
static int64_t lay(const pass *p, room *r) {
    char *at = (char *)r;
    const int64_t whole = sizeof(element), tiles = p->target.channels * WIDEST;
    r->ring = (element *)(at += lines(sizeof *r));
    r->held = (element *)(at += lines((p->slots * panel_of(p) + WIDEST) * whole));
    r->stage = (element *)(at += lines((p->target.channels * p->pitch + WIDEST) * whole));
    r->other = (element *)(at += lines(tiles * whole));
    r->sums = (float *)(at += lines(tiles * whole));
    r->nothing = (int32_t *)(at += lines(tiles * sizeof(float)));
    return at + lines((p->target.channels + 1) * sizeof *r->nothing) - (char *)r;
}

static int64_t room_bytes(const pass *p) {
    room empty;
    return lay(p, &empty);
}

/* Lanes at .. at + lanes of a row, between a tile and their place; `image` is that of column 0. */
static void move(const pass *p, const unit *u, int64_t at, int64_t lanes, element *tile, element *image, int in) {
    const int64_t apart = p->target.height * p->target.width * p->n, step = p->to.step * p->n;
    const int whole = step == p->lanes && step == u->lanes;    /* columns follow each other */
    for (int64_t o = 0; o < p->target.channels; o++)
        for (int64_t i = at, next; i < at + lanes; i = next) {
            const int64_t column = i / p->lanes, lane = i % p->lanes, rest = u->lanes - lane;
            next = whole || (column + 1) * p->lanes > at + lanes ? at + lanes : (column + 1) * p->lanes;
            const int64_t there = whole || next - i < rest ? next - i : rest;
            element *here = tile + o * WIDEST + i - at, *far = image + o * apart + column * step + lane;
            if (there > 0) memcpy(in ? here : far, in ? far : here, there * sizeof *far);
        }
}

/* Lanes at .. at + lanes of row y and phase f; `to`, and `add` or null, is where the phase's column 0 is. */
static void run_lanes(const pass *p, const unit *u, int64_t f, int64_t at, int64_t lanes, element *const *source, float *dw,
                      element *to, const element *add, room *r) {
    const int64_t R = (lanes + REGISTER - 1) / REGISTER, step = p->to.step * p->n;
    const int direct = u->lanes == p->lanes && p->lanes % REGISTER == 0;
    if (add && !direct) move(p, u, at, lanes, r->other, (element *)add, 1);
    tile t = {.held = r->held + at, .sums = r->sums, .dw = dw, .first = 1, .to = direct ? to : r->stage,
              .add = direct || !add ? add : r->other, .least = p->least,
              .apart = direct ? p->target.height * p->target.width * p->n : WIDEST};
    for (int64_t v = 0, i = at; v < R; v++, i += REGISTER)
        t.place[v] = direct ? i / p->lanes * step + i % p->lanes : v * REGISTER;
    const int64_t bytes = t.apart * p->target.channels * (int64_t)sizeof(element);
    t.past = direct && bytes >= LARGE && p->n * sizeof(element) % LINE == 0 && (uintptr_t)to % LINE == 0;
    int64_t taps = p->taps;
    while (taps > 1 && !source[taps - 1]) taps--;
    for (int64_t k = 0; k < taps; k++)
        for (int64_t b = 0; (source[k] || taps == 1) && b < p->blocks; b++) {
            const int64_t key = ((k * p->blocks + b) * p->to.phases + f) * p->target.channels;
            t.begin = source[k] ? p->begin + key : r->nothing;
            t.source = source[k] + at;
            t.last = k + 1 == taps && b + 1 == p->blocks;
            run_tile(p, R, &t);
            t.first = 0;
        }
    if (p->target.at && !direct) move(p, u, at, lanes, r->stage, to, 0);
}

static void run_row(const pass *p, const unit *u, int64_t y, float *dw, room *r) {
    element *source[MOST];
    const image *x = &p->target;
    const int64_t widest = dw ? HELD : TILE;
    for (int64_t k = 0; k < p->taps; k++) {
        const int64_t row = row_of(p, y, k), slot = row % p->slots;
        element *panel = r->ring + slot * panel_of(p);
        source[k] = row < 0 ? 0 : panel;
        if (row < 0 || r->rows[slot] == row) continue;
        fill(p, &p->source, &p->from, row, u->t, p->columns + p->reach, u, panel);
        r->rows[slot] = row;
    }
    for (int64_t f = 0; f < p->to.phases; f++) {
        const int64_t columns = count(x, &p->to, f, u->end) - u->t, lanes = columns * p->lanes;
        if (columns <= 0) continue;
        element *to = (element *)x->at + (y * x->width + u->t * p->to.step + p->to.start[f]) * p->n + u->at;
        const element *add = p->add ? (const element *)p->add + (to - (element *)x->at) : 0;
        if (dw) {
            const comb one = {1, p->to.step, {p->to.start[f]}};
            fill(p, &p->held, &one, y, u->t, columns, u, r->held);
        }
        const int64_t registers = up(lanes, REGISTER), tiles = up(registers, widest);
        for (int64_t i = 0, at = 0, next; i < tiles; i++, at = next) {
            next = registers * (i + 1) / tiles * REGISTER;
            run_lanes(p, u, f, at, (next < lanes ? next : lanes) - at, source, dw, to, add, r);
        }
    }
}

static void run(const pass *p, int64_t first, int64_t last, float *dw, void *memory) {
    room *r = memory;
    lay(p, r);
    memset(r->nothing, 0, (p->target.channels + 1) * sizeof *r->nothing);
    for (int64_t i = first; i < last; i++) {
        const unit u = unit_of(p, i);
        for (int64_t s = 0; s < p->slots; s++) r->rows[s] = -1;
        for (int64_t y = u.y; y < u.last; y++) run_row(p, &u, y, dw, r);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);    /* what left past the caches has arrived */
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
const convolver NAME(ISA) = {REGISTER, TILE, PAIRED, room_bytes, product, gradients, channel_sums};
