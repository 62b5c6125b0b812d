/* What Python calls for convolutions: plans a pass, sorts its entries, shares its units among threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conv.h"
#include "pages.h"
#include "share.h"

#define WORTH 32768           /* multiplications below which a second thread costs more than it brings */
#define NEAR (40 * 1024)      /* bytes of the L1 cache that a tile's source in a block may fill */
#define RING (640 * 1024)     /* bytes of the L2 cache that the source rows of a strip may fill */
#define LEAST 12              /* entries that a block must have for a target channel, to be worth its sums' way */

/* The matrix of the weights as a pass walks it: entry k of row r, in column c, is summed under the key
   row_key[r] + column_key[c], and its source lies at row_at[r] + column_at[c]. */
typedef struct {
    int64_t rows, width, group;    /* rows of a group share keys, those of different groups do not */
    const int32_t *pointers, *columns, *order;
    int32_t *row_key, *row_at, *column_key, *column_at;
    const float *scale;            /* of rows, or null */
} walk;

/* What a call needs besides the rooms of its threads, in one piece. */
typedef struct {
    int32_t *begin, *lists, *origin;
    entry *entries;
    float *dw;
    int64_t keys, bytes;
} stock;


/* Taps of the columns: the phase of the target and of the source that each joins, and how far apart they are. */
typedef struct {
    int64_t to[MOST], from[MOST], shift[MOST];
} taps;

static taps forward_columns(const shape *s, pass *p) {
    const int64_t step = s->stride[1];
    taps t = {{0}, {0}, {0}};
    p->to = (comb){1, 1, {0}};
    p->from = (comb){0, step, {0}};
    for (int64_t k = 0; k < s->kernel[1]; k++) {
        const int64_t at = k * s->dilation[1], start = at % step - s->padding[1];
        int64_t f = 0;
        while (f < p->from.phases && p->from.start[f] != start) f++;
        if (f == p->from.phases) p->from.start[p->from.phases++] = start;
        t.from[k] = f;
        t.shift[k] = at / step;
        if (t.shift[k] > p->reach) p->reach = t.shift[k];
    }
    return t;
}

static taps backward_columns(const shape *s, pass *p) {
    const int64_t step = s->stride[1], pad = s->padding[1];
    int64_t least = INT64_MAX, most = INT64_MIN;
    taps t = {{0}, {0}, {0}};
    p->to = (comb){step, step, {0}};
    for (int64_t f = 0; f < step; f++) p->to.start[f] = ((f - pad) % step + step) % step;
    for (int64_t k = 0; k < s->kernel[1]; k++) {
        const int64_t at = k * s->dilation[1];
        t.to[k] = at % step;
        t.shift[k] = (p->to.start[t.to[k]] + pad - at) / step;    /* the source column of target column 0 */
        if (t.shift[k] < least) least = t.shift[k];
        if (t.shift[k] > most) most = t.shift[k];
    }
    for (int64_t k = 0; k < s->kernel[1]; k++) t.shift[k] -= least;
    p->from = (comb){1, 1, {least}};
    p->reach = most - least;
    return t;
}

/* How a pass is cut: into sheets of lanes, strips of columns, chunks of rows, blocks of source channels. */
static int64_t cut(pass *p, int64_t nnz, const convolver *with, int64_t size, int threads) {
    const int64_t vector = with->vector, tile = with->tile * vector, least = LINE / size, width = up(p->target.width, p->to.step);
    const int64_t most = up(tile, width) > least ? up(up(tile, width), vector) * vector : least;
    p->lanes = up(p->n, up(p->n, most));
    if (p->lanes > vector) p->lanes = up(p->lanes, vector) * vector;
    p->sheets = up(p->n, p->lanes);
    const int64_t planes = p->source.channels * p->from.phases;
    for (p->columns = width;; p->columns = up(up(p->columns, 2) * p->lanes, tile) * tile / p->lanes) {
        p->pitch = (up(p->columns * p->lanes, vector) * vector + p->reach * p->lanes) * size;
        p->pitch = (up(p->pitch, LINE) | 1) * LINE / size;    /* odd: the channels of a tile fill all sets of a cache */
        if (p->slots * planes * p->pitch * size <= RING || p->columns * p->lanes <= tile) break;
    }
    p->strips = up(width, p->columns);
    p->chunks = p->sheets * p->strips % threads ? threads : 1;
    if (p->chunks > p->target.height) p->chunks = p->target.height;
    const int64_t near = NEAR / ((tile + p->reach * p->lanes) * p->from.phases * size);
    const int64_t worth = nnz ? LEAST * p->taps * p->target.channels * p->to.phases * p->source.channels / nnz : p->source.channels;
    const int64_t block = near > worth ? near : worth, channels = p->source.channels;
    p->blocks = up(channels, block < 1 ? 1 : block);
    return up(channels, p->blocks);
}

static pass plan(const shape *s, int back, image x, image y) {
    pass p = {.n = s->n, .taps = s->kernel[0], .source = back ? y : x, .target = back ? x : y};
    const int64_t stride = s->stride[0], pad = s->padding[0], dilation = s->dilation[0];
    if (back) memcpy(p.row, (int64_t[]){1, -dilation, pad, stride}, sizeof p.row);
    else memcpy(p.row, (int64_t[]){stride, dilation, -pad, 1}, sizeof p.row);
    p.slots = (p.taps - 1) * dilation / (back ? stride : 1) + 1;
    return p;
}

/* Fills the lists of the walk. */
static void list(const shape *s, const pass *p, const taps *t, int back, int64_t block, walk *w) {
    const int64_t area = s->kernel[0] * s->kernel[1], targets = p->target.channels;
    int32_t *key = back ? w->row_key : w->column_key, *at = back ? w->row_at : w->column_at;
    int32_t *other_key = back ? w->column_key : w->row_key, *other_at = back ? w->column_at : w->row_at;
    for (int64_t c = 0; c < s->channels; c++)
        for (int64_t i = 0; i < area; i++) {
            const int64_t down = i / s->kernel[1], k = i % s->kernel[1];
            *key++ = back ? (down * p->blocks * p->to.phases + t->to[k]) * targets + c : (down * p->blocks + c / block) * targets;
            *at++ = (back ? 0 : (c * p->from.phases + t->from[k]) * p->pitch) + t->shift[k] * p->lanes;
        }
    for (int64_t o = 0; o < s->out_channels; o++) {
        *other_key++ = back ? o / block * p->to.phases * targets : o;
        *other_at++ = back ? o * p->pitch : 0;
    }
}

/* To bfloat16, ties to even; a NaN stays one. */
static uint16_t rounded(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return value == value ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fc0;
}

/* Sorts the entries by key, together with the other threads; their order within a key stays. `begin` must be zero. */
static void sort(const walk *w, const float *values, int pairs, const stock *to) {
    const int64_t groups = w->rows / w->group;
    const int64_t first = part(groups, 0) * w->group, last = part(groups, 1) * w->group;
    for (int64_t r = first; r < last; r++)
        for (int32_t k = w->pointers[r]; k < w->pointers[r + 1]; k++)
            to->begin[w->row_key[r] + w->column_key[w->columns[k]] + 2]++;
#pragma omp barrier
#pragma omp single
    for (int64_t key = 0; key < to->keys; key++) to->begin[key + 2] += to->begin[key + 1];
    for (int64_t r = first; r < last; r++) {
        const float scale = w->scale ? w->scale[r] : 1;
        for (int32_t k = w->pointers[r]; k < w->pointers[r + 1]; k++) {
            const int32_t column = w->columns[k], which = w->order ? w->order[k] : k;
            const int32_t at = to->begin[w->row_key[r] + w->column_key[column] + 1]++;
            const float value = values[which] * scale;
            to->entries[at].at = w->row_at[r] + w->column_at[column];
            if (pairs) to->entries[at].pair[0] = to->entries[at - 1].pair[1] = rounded(value);
            else to->entries[at].value = value;
            if (to->origin) to->origin[at] = which;
        }
    }
#pragma omp barrier
}

static void *take(char **memory, int64_t bytes) {
    void *at = *memory;
    *memory += lines(bytes);
    return at;
}

/* Where in `memory` everything lies; at first, with memory at null, how many bytes that is. */
static stock stock_at(char *memory, const pass *p, int64_t nnz, int64_t listed, int copies) {
    char *at = memory;
    stock s = {.keys = p->taps * p->blocks * p->to.phases * p->target.channels};
    s.begin = take(&at, (s.keys + 2) * sizeof *s.begin);
    s.lists = take(&at, listed * sizeof *s.lists);
    s.entries = (entry *)take(&at, (nnz + 1) * sizeof *s.entries) + 1;    /* one before, for `pair` */
    s.origin = copies ? take(&at, nnz * sizeof *s.origin) : 0;
    s.dw = copies ? take(&at, copies * lines(nnz * sizeof *s.dw)) : 0;
    s.bytes = at - memory;
    return s;
}

static walk walk_of(const shape *s, const int32_t *index, int64_t nnz, int back) {
    const int64_t area = s->kernel[0] * s->kernel[1], width = s->channels * area;
    const int32_t *pointers = index + s->out_channels + 1 + nnz;
    return back ? (walk){width, s->out_channels, area, pointers, pointers + width + 1, pointers + width + 1 + nnz, 0, 0, 0, 0, 0}
                : (walk){s->out_channels, width, 1, index, index + s->out_channels + 1, 0, 0, 0, 0, 0, 0};
}

/* The sums of a pass into its target, and what belongs to the weights into dw, unless that is null. */
static int run(const convolver *with, const shape *s, int back, pass *p, const int32_t *index, int64_t nnz, const float *values,
               const float *scale, float *dw, int size, int threads) {
    p->reach = 0;
    const taps t = back ? backward_columns(s, p) : forward_columns(s, p);
    const int64_t block = cut(p, nnz, with, size, threads);
    walk w = walk_of(s, index, nnz, back);
    w.scale = scale;
    const int64_t listed = 2 * (w.rows + w.width), copies = dw ? threads : 0;
    const int64_t shared = stock_at(0, p, nnz, listed, copies).bytes, own = with->room(p);
    char *memory = regrow_scratch(shared + own);
    if (!memory) return 1;
    const stock k = stock_at(memory, p, nnz, listed, copies);
    const image y = p->target;
    if (y.at) large_pages(y.at, y.channels * y.height * y.width * p->n * size);
    w.row_key = k.lists;
    w.row_at = w.row_key + w.rows;
    w.column_key = w.row_at + w.rows;
    w.column_at = w.column_key + w.width;
    list(s, p, &t, back, block, &w);
    memset(k.begin, 0, (k.keys + 2) * sizeof *k.begin);
    p->begin = k.begin;
    p->entries = k.entries;
    const int64_t units = p->chunks * p->strips * p->sheets, apart = lines(nnz * sizeof *dw) / (int64_t)sizeof *dw;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        const int me = omp_get_thread_num(), all = omp_get_num_threads();
        void *room = me ? regrow_scratch(own) : memory + shared;
        failed = !room;
        sort(&w, values, with->pairs, &k);
        float *mine = k.dw + me * apart;
        if (dw) memset(mine, 0, nnz * sizeof *dw);
        if (room && dw) with->gradients(p, part(units, 0), part(units, 1), mine, room);
        else if (room) with->product(p, part(units, 0), part(units, 1), room);
        if (dw) {
#pragma omp barrier
            for (int64_t i = part(nnz, 0); i < part(nnz, 1); i++) {
                float sum = k.dw[i];
                for (int other = 1; other < all; other++) sum += k.dw[other * apart + i];
                dw[k.origin[i]] = sum;
            }
        }
    }
    return failed;
}

static int threads_for(const shape *s, int64_t nnz, int threads) {
    return nnz * s->n * s->out[0] * s->out[1] < WORTH ? 1 : threads;
}

/* y = scale (w * x) + bias + add, each of the three or null, and 0 where that is negative if `relu`; x, add and y in
   lanes, bfloat16 if `half`, else float; all else is float. */
EXPORT int regrow_convolve(const int32_t *index, int64_t nnz, const float *values, const float *scale, const float *bias,
                           const shape *s, void *x, const void *add, int relu, void *y, int half, int threads) {
    pass p = plan(s, 0, (image){x, s->channels, s->in[0], s->in[1]}, (image){y, s->out_channels, s->out[0], s->out[1]});
    p.bias = bias;
    p.add = add;
    p.least = relu ? 0 : -INFINITY;
    return run(regrow_convolver(half), s, 0, &p, index, nnz, values, scale, 0, half ? 2 : 4, threads_for(s, nnz, threads));
}

/* Of y = w * x + bias, from g and x: dx as x, dw [nnz], db [out]; each may be null. */
EXPORT int regrow_convolve_gradients(const int32_t *index, int64_t nnz, const float *values, const shape *s, void *g,
                                     void *x, void *dx, float *dw, float *db, int half, int threads) {
    const convolver *with = regrow_convolver(half);
    const image grad = {g, s->out_channels, s->out[0], s->out[1]};
    threads = threads_for(s, nnz, threads);
    pass p = plan(s, 1, (image){dx, s->channels, s->in[0], s->in[1]}, grad);
    p.least = -INFINITY;
    p.held = (image){x, s->channels, s->in[0], s->in[1]};
    const int failed = dx || dw ? run(with, s, 1, &p, index, nnz, values, 0, dw, half ? 2 : 4, threads) : 0;
    if (db)
#pragma omp parallel num_threads(threads)
        with->sums(&grad, s->n, part(grad.channels, 0), part(grad.channels, 1), db);
    return failed;
}
