/* What the dense gradient of a convolution's filters is made of: sums of products of lanes, some pixels at a time. */
#ifndef REGROW_DOTS_H
#define REGROW_DOTS_H

#include <stdint.h>

/* What the filters read, beside g: x as [channels][rows][..], zeros around it. Of channel c, tap t, the first output pixel
   reads x[c * channel + tap[t]], the next row of output reads `row` further. */
typedef struct {
    const void *x;
    int64_t channel, row, channels, taps;
    const int64_t *tap;
} windows;

/* to [count][channels * taps] += the gradient of the filters, from `count` channels of g, `apart` from each other, of which
   `lines` rows of `lanes` elements are read, `line` apart. For one instruction set; g and x are float, or bfloat16
   where the processor multiplies that by pairs. */
typedef void dots(const void *g, int64_t apart, int64_t count, const windows *w, int64_t lines, int64_t lanes, int64_t line,
                  float *to);

extern dots regrow_dots_portable, regrow_dots_avx2, regrow_dots_avx512, regrow_dots_avx512bf16_half;

/* Of the instruction set in use; null for bfloat16 where the processor has no such products. */
dots *regrow_dots(int half);

#endif
