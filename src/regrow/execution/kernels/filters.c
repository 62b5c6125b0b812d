/* The dense gradient of a convolution's filters: what a pass over all pixels sums, for every filter, channel and tap.

   x is copied once, with zeros around it, its columns by phases (the ones a stride apart are neighbours): then output
   pixels in a row read, for every tap, elements in a row. A few pixels at a time, whose g stays in the first cache. */
#include "outer.h"

#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "share.h"

#define MOST 16       /* taps or stride, along an axis */
#define PIXELS 1024   /* lanes of a channel of g that are summed at a time */

/* A convolution: sizes, as native.py gives them; (height, width) pairs. */
typedef struct {
    int64_t n, channels, in[2], out_channels, out[2], kernel[2], stride[2], padding[2], dilation[2];
} shape;

/* The copy of x: [channels][rows][phases][columns][n]. Phase f holds columns start[f], start[f] + stride, .. of x. */
typedef struct {
    int64_t rows, phases, columns, start[MOST];
    int64_t tap[MOST * MOST];
    float *at;
} copy;

static int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

static copy copy_of(const shape *s) {
    copy c = {.rows = (s->out[0] - 1) * s->stride[0] + (s->kernel[0] - 1) * s->dilation[0] + 1};
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
    return c;
}

static void lay(const shape *s, const copy *c, const float *x, int64_t channel) {
    float *to = c->at + channel * c->rows * c->phases * c->columns * s->n;
    for (int64_t row = 0; row < c->rows; row++)
        for (int64_t f = 0; f < c->phases; f++, to += c->columns * s->n) {
            const int64_t y = row - s->padding[0], step = s->stride[1];
            int64_t first = 0, last = up(s->in[1] - c->start[f], step);
            while (first * step + c->start[f] < 0) first++;
            if (last > c->columns) last = c->columns;
            if (y < 0 || y >= s->in[0] || last < first) first = last = 0;
            const float *from = x + ((channel * s->in[0] + y) * s->in[1] + first * step + c->start[f]) * s->n;
            memset(to, 0, first * s->n * sizeof *to);
            if (step == 1) memcpy(to + first * s->n, from, (last - first) * s->n * sizeof *to);
            else
                for (int64_t i = first; i < last; i++, from += step * s->n) memcpy(to + i * s->n, from, s->n * sizeof *to);
            memset(to + last * s->n, 0, (c->columns - last) * s->n * sizeof *to);
        }
}

/* Of some filters: their part of g begins at `g`. */
static void sum(const shape *s, const copy *c, const float *g, int64_t count, float *to) {
    const int64_t row = s->out[1] * s->n, strips = row < PIXELS ? 1 : row / PIXELS, wide = up(s->out[1], strips);
    const int64_t tall = row < PIXELS ? PIXELS / row : 1, step = c->phases * c->columns * s->n;
    windows w = {0, c->rows * step, s->stride[0] * step, s->channels, s->kernel[0] * s->kernel[1], c->tap};
    for (int64_t y = 0; y < s->out[0]; y += tall)
        for (int64_t x = 0; x < s->out[1]; x += wide) {
            const int64_t lines = s->out[0] - y < tall ? s->out[0] - y : tall, columns = s->out[1] - x < wide ? s->out[1] - x : wide;
            w.x = c->at + y * w.row + x * s->n;
            regrow_outer()->filters(g + y * row + x * s->n, s->out[0] * row, count, &w, lines, columns * s->n, row, to);
        }
}

/* to [count][channels * taps]: the gradient of filters first .. first + count, from g and x, in lanes. */
EXPORT int regrow_filters(const shape *s, const float *g, const float *x, int64_t first, int64_t count, float *to, int threads) {
    const int64_t width = s->channels * s->kernel[0] * s->kernel[1], one = s->out[0] * s->out[1] * s->n;
    copy c = copy_of(s);
    c.at = aligned_alloc(LINE, lines(s->channels * c.rows * c.phases * c.columns * s->n * sizeof *c.at + 1));
    if (!c.at) return 1;
#pragma omp parallel num_threads(count * width * one < ENOUGH ? 1 : threads)
    {
        for (int64_t channel = part(s->channels, 0); channel < part(s->channels, 1); channel++) lay(s, &c, x, channel);
#pragma omp barrier
        const int64_t low = part(count, 0), high = part(count, 1);
        memset(to + low * width, 0, (high - low) * width * sizeof *to);
        if (low < high) sum(s, &c, g + (first + low) * one, high - low, to + low * width);
    }
    free(c.at);
    return 0;
}
