/* Rows of the dense gradient of a product, and what stands out in those of anything. */
#ifndef REGROW_OUTER_H
#define REGROW_OUTER_H

#include <stdint.h>

#define PANEL 64    /* features of x that are read together, lane by lane: panels [PANEL][n] become [n][PANEL] */

/* Of one instruction set. */
typedef struct {
    /* to [rows][panels * PANEL] = g x^T, from g [rows][n] in lanes and x in panels. */
    void (*rows)(const float *g, int64_t rows, int64_t n, const float *x, int64_t panels, float *to);
    /* `at` [width + PANEL] begins with the places in `row` [width] of what is above the bound in size, and of every
       NaN; returns how many they are. */
    int64_t (*above)(const float *row, int64_t width, float bound, int32_t *at);
} outer;

extern const outer regrow_outer_portable, regrow_outer_avx2, regrow_outer_avx512;
const outer *regrow_outer(void);    /* of the instruction set that was chosen */

#endif
