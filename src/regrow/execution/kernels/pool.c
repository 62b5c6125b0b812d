/* Compiled for every instruction set, and with HALF for bfloat16 images. Every pixel is written once, in the order of
   memory, from a few rows that stay in the cache. */
#include "pool.h"

#include <math.h>

#include "vector.h"

typedef uint8_t bytes __attribute__((vector_size(VW), aligned(1), may_alias));
#ifdef HALF
typedef int16_t word;
#else
typedef int32_t word;
#endif
typedef uint16_t shorts __attribute__((vector_size(2 * VW)));    /* compilers convert by a factor of two well */
typedef word words __attribute__((vector_size(sizeof(element) * VW), aligned(sizeof(element)), may_alias));

#define FEW 4         /* vectors of lanes at once */
#define AHEAD 2048    /* bytes: a window's rows are streams too short for the processor to foresee */

INLINE vec some(const element *from, int lanes) {
    if (lanes == VW) return load(from);
    element whole[VW] = {0};
    memcpy(whole, from, lanes * sizeof *from);
    return load(whole);
}

/* So many vectors of lanes, each VW or fewer, of the window whose first pixel is (h, w) of the channel x. */
INLINE void maximum(const int vectors, int lanes, const shape *p, const element *x, int64_t h, int64_t w, element *y,
                    uint8_t *which) {
    const int64_t top = h < 0 ? -h : 0, bottom = p->in[0] - h < p->kernel[0] ? p->in[0] - h : p->kernel[0];
    const int64_t left = w < 0 ? -w : 0, right = p->in[1] - w < p->kernel[1] ? p->in[1] - w : p->kernel[1];
    vec most[FEW];
    ints at[FEW];
    UNROLL for (int v = 0; v < vectors; v++) {
        most[v] = spread(-INFINITY);
        at[v] = (ints){0} + (int32_t)(top * p->kernel[1] + left);
    }
    for (int64_t i = top; i < bottom; i++)
        for (int64_t j = left; j < right; j++) {
            const element *from = lane(x, ((h + i) * p->in[1] + w + j) * p->n);
            const ints here = (ints){0} + (int32_t)(i * p->kernel[1] + j);
            UNROLL for (int v = 0; v < vectors; v++) {
                const vec value = some(from + v * VW, lanes);
                __builtin_prefetch(from + v * VW + AHEAD / sizeof *from);
                const ints more = (value > most[v]) | (value != value);
                most[v] = (vec)((more & (ints)value) | (~more & (ints)most[v]));
                at[v] = (more & here) | (~more & at[v]);
            }
        }
    UNROLL for (int v = 0; v < vectors; v++) {
        element value[VW];
        store(value, most[v]);
        memcpy(y + v * VW, value, lanes * sizeof *y);
        const bytes place = __builtin_convertvector(__builtin_convertvector(at[v], shorts), bytes);
        if (which) memcpy(which + v * VW, &place, lanes);
    }
}

static void max(const shape *p, int64_t first, int64_t last, const void *from, void *to, uint8_t *which) {
    const int64_t n = p->n;
    int64_t done = first * p->out[0] * p->out[1] * n;
    for (int64_t c = first; c < last; c++)
        for (int64_t i = 0; i < p->out[0]; i++)
            for (int64_t j = 0; j < p->out[1]; j++, done += n) {
                const element *x = (const element *)from + c * p->in[0] * p->in[1] * n;
                const int64_t h = i * p->stride[0] - p->padding[0], w = j * p->stride[1] - p->padding[1];
                element *y = (element *)to + done;
                uint8_t *at = which ? which + done : 0;
                int64_t l = 0;
                for (; l + FEW * VW <= n; l += FEW * VW) maximum(FEW, VW, p, x + l, h, w, y + l, at ? at + l : 0);
                for (; l + VW <= n; l += VW) maximum(1, VW, p, x + l, h, w, y + l, at ? at + l : 0);
                if (l < n) maximum(1, n - l, p, x + l, h, w, y + l, at ? at + l : 0);
            }
}

/* Windows first .. last along an axis. */
typedef struct {
    int64_t first, last;
} range;

/* Those that pixel `at` is in, from those of the pixel before. */
INLINE range windows(const shape *p, int axis, range before, int64_t at) {
    const int64_t stride = p->stride[axis], reach = at + p->padding[axis];
    while (before.first < before.last && before.first * stride + p->kernel[axis] <= reach) before.first++;
    while (before.last < p->out[axis] && before.last * stride <= reach) before.last++;
    return before;
}

/* What a window of gradient g gives to its pixel `place`, in VW lanes; if `more`, added to what is there. */
INLINE void hand(const int more, const element *g, const uint8_t *which, word place, element *dx) {
    const shorts places = __builtin_convertvector(*(const bytes *)which, shorts);
    const words given = (__builtin_convertvector(places, words) == place) & *(const words *)g;
    if (more) store(dx, load(dx) + load((const element *)&given));
    else *(words *)dx = given;
}

INLINE void hand_all(const int more, const element *g, const uint8_t *which, word place, element *dx, int64_t n) {
    const int64_t tail = n % VW;
    for (int64_t l = 0; l < n - tail; l += VW) hand(more, g + l, which + l, place, dx + l);
    if (!tail) return;
    element gradient[VW] = {0}, sum[VW] = {0};
    uint8_t at[VW] = {0};
    memcpy(gradient, g + n - tail, tail * sizeof *g);
    memcpy(at, which + n - tail, tail);
    memcpy(sum, dx + n - tail, tail * sizeof *dx);
    hand(more, gradient, at, place, sum);
    memcpy(dx + n - tail, sum, tail * sizeof *dx);
}

static void max_gradient(const shape *p, int64_t first, int64_t last, const void *by, const uint8_t *which, void *to) {
    const int64_t n = p->n;
    element *dx = (element *)to + first * p->in[0] * p->in[1] * n;
    for (int64_t c = first; c < last; c++) {
        range rows = {0, 0};
        for (int64_t h = 0; h < p->in[0]; h++) {
            rows = windows(p, 0, rows, h);
            range columns = {0, 0};
            for (int64_t w = 0; w < p->in[1]; w++, dx += n) {
                columns = windows(p, 1, columns, w);
                int more = 0;
                for (int64_t i = rows.first; i < rows.last; i++)
                    for (int64_t j = columns.first; j < columns.last; j++) {
                        const int64_t from = ((c * p->out[0] + i) * p->out[1] + j) * n;
                        const int64_t down = h + p->padding[0] - i * p->stride[0];
                        const word place = down * p->kernel[1] + w + p->padding[1] - j * p->stride[1];
                        const element *g = (const element *)by + from;
                        if (more++) hand_all(1, g, which + from, place, dx, n);
                        else hand_all(0, g, which + from, place, dx, n);
                    }
                if (!more) memset(dx, 0, n * sizeof *dx);
            }
        }
    }
}

#define NAME_(isa) regrow_pool_##isa
#define NAME(isa) NAME_(isa)
const pool NAME(ISA) = {max, max_gradient};
