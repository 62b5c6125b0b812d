/* The dense gradient of a convolution's filters: what a pass over all pixels sums, for every filter, channel and tap.

   x is copied once, with zeros around it, its columns by phases (the ones a stride apart are neighbours): then output
   pixels in a row read, for every tap, elements in a row. A few pixels at a time, whose g stays in the first cache. */
#include "dots.h"

#include <stdlib.h>
#include <string.h>

#include "conv.h"
#include "pages.h"
#include "rivals.h"
#include "share.h"

#define NEAR 4096     /* bytes of a channel of g that are summed at a time */
#define TOGETHER 8    /* filters that are best summed together */

/* The factors, of which x is copied to `at`: [channels][rows][phases][columns][n]. Phase f holds columns start[f],
   start[f] + stride, .. of x. */
typedef struct {
    dense of;
    const shape *s;
    const char *g, *x;
    int half;
    int64_t size, rows, phases, columns, start[MOST];    /* `size`: bytes of an element */
    int64_t tap[MOST * MOST];
    char *at;
} copy;

static void ready(const dense *d);
static void form(const dense *d, int64_t first, int64_t count, float *to);

static copy copy_of(const shape *s, const void *g, const void *x, int half) {
    const int64_t width = s->channels * s->kernel[0] * s->kernel[1];
    copy c = {.of = {s->out_channels, width, width, TOGETHER, ready, form}, .s = s, .g = g, .x = x, .half = half,
              .size = half ? 2 : 4,
              .rows = (s->out[0] - 1) * s->stride[0] + (s->kernel[0] - 1) * s->dilation[0] + 1};
    int64_t phase[MOST], shift[MOST], reach = 0;
    for (int64_t k = 0; k < s->kernel[1]; k++) {
        const int64_t at = k * s->dilation[1], start = at % s->stride[1] - s->padding[1];
        phase[k] = 0;
        while (phase[k] < c.phases && c.start[phase[k]] != start) phase[k]++;
        if (phase[k] == c.phases) c.start[c.phases++] = start;
        shift[k] = at / s->stride[1];
        if (shift[k] > reach) reach = shift[k];
    }
    c.columns = s->out[1] + reach;
    for (int64_t i = 0; i < s->kernel[0]; i++)
        for (int64_t k = 0; k < s->kernel[1]; k++)
            c.tap[i * s->kernel[1] + k] = ((i * s->dilation[0] * c.phases + phase[k]) * c.columns + shift[k]) * s->n;
    const int64_t bytes = s->channels * c.rows * c.phases * c.columns * s->n * c.size, large = up(bytes, PAGE) * PAGE;
    c.at = aligned_alloc(PAGE, large);
    if (c.at) large_pages(c.at, large);
    return c;
}

static void lay(const copy *c, int64_t channel) {
    const shape *s = c->s;
    const int64_t pixel = s->n * c->size;
    char *to = c->at + channel * c->rows * c->phases * c->columns * pixel;
    for (int64_t row = 0; row < c->rows; row++)
        for (int64_t f = 0; f < c->phases; f++, to += c->columns * pixel) {
            const int64_t y = row - s->padding[0], step = s->stride[1];
            int64_t first = 0, last = up(s->in[1] - c->start[f], step);
            while (first * step + c->start[f] < 0) first++;
            if (last > c->columns) last = c->columns;
            if (y < 0 || y >= s->in[0] || last < first) first = last = 0;
            const char *from = c->x + ((channel * s->in[0] + y) * s->in[1] + first * step + c->start[f]) * pixel;
            memset(to, 0, first * pixel);
            if (step == 1) memcpy(to + first * pixel, from, (last - first) * pixel);
            else
                for (int64_t i = first; i < last; i++, from += step * pixel) memcpy(to + i * pixel, from, pixel);
            memset(to + last * pixel, 0, (c->columns - last) * pixel);
        }
}

static void ready(const dense *d) {
    const copy *c = (const copy *)d;
    for (int64_t channel = part(c->s->channels, 0); channel < part(c->s->channels, 1); channel++) lay(c, channel);
}

static void form(const dense *d, int64_t first, int64_t count, float *to) {
    const copy *c = (const copy *)d;
    const shape *s = c->s;
    const int64_t most = NEAR / c->size, row = s->out[1] * s->n, strips = row < most ? 1 : row / most;
    const int64_t wide = up(s->out[1], strips), tall = row < most ? most / row : 1;
    const int64_t step = c->phases * c->columns * s->n, one = s->out[0] * row;
    windows w = {0, c->rows * step, s->stride[0] * step, s->channels, s->kernel[0] * s->kernel[1], c->tap};
    memset(to, 0, count * d->width * sizeof *to);
    for (int64_t y = 0; y < s->out[0]; y += tall)
        for (int64_t x = 0; x < s->out[1]; x += wide) {
            const int64_t high = s->out[0] - y < tall ? s->out[0] - y : tall, columns = s->out[1] - x < wide ? s->out[1] - x : wide;
            const char *g = c->g + (first * one + y * row + x * s->n) * c->size;
            w.x = c->at + (y * w.row + x * s->n) * c->size;
            regrow_dots(c->half)(g, one, count, &w, high, columns * s->n, row, to);
        }
}

/* to [count][channels * taps]: the gradient of filters first .. first + count, from g and x, in lanes, bfloat16 if `half`,
   else float. */
EXPORT int regrow_filters(const shape *s, const void *g, const void *x, int64_t first, int64_t count, float *to, int half,
                          int threads) {
    const copy c = copy_of(s, g, x, half);
    if (!c.at) return 1;
#pragma omp parallel num_threads(count * c.of.width * s->out[0] * s->out[1] * s->n < ENOUGH ? 1 : threads)
    {
        ready(&c.of);
#pragma omp barrier
        const int64_t low = part(count, 0), high = part(count, 1);
        if (low < high) form(&c.of, first + low, high - low, to + low * c.of.width);
    }
    free(c.at);
    return 0;
}

/* `regrow_seek` in the gradient of all filters. */
EXPORT int64_t regrow_filter_rivals(const shape *s, const void *g, const void *x, int half, const void *active, int64_t count,
                                    int wide, float bound, void *at, float *size, int64_t room, int threads) {
    const copy c = copy_of(s, g, x, half);
    if (!c.at) return -1;
    const int64_t found = regrow_seek(&c.of, active, count, wide, bound, at, size, room, threads);
    free(c.at);
    return found;
}
