/* What the kernels share. Activations are in lanes: [features][n], for every feature the batch is contiguous. */
#ifndef REGROW_KERNELS_H
#define REGROW_KERNELS_H

#include <stdint.h>

/* A sparse matrix by rows: row o owns entries pointers[o] .. pointers[o + 1] of `columns`, ascending within the row.
   Entry k has the value values[k], or values[order[k]] for a matrix that is the transpose of what `values` is sorted by. */
typedef struct {
    int64_t rows, width;
    const int32_t *pointers, *columns, *order;
    const float *values;
} matrix;

/* The kernels of one instruction set, for activations of one type (float, or bfloat16 summed in float). Each is run by
   one thread, on rows first .. last of w and n lanes. What returns an int returns nonzero when there is no memory. */
typedef struct {
    /* y[o] = bias[o] + sum_k value_k x[column_k]; no bias: 0 */
    int (*product)(const matrix *w, int64_t first, int64_t last, const float *bias, const void *x, void *y, int64_t n);
    /* Of y = x w^T with w given by columns: dx[c] = sum_k value_k g[row_k], unless dx is null, and
       dw[order_k] = <x[c], g[row_k]>. One load of g serves both. */
    int (*gradients)(const matrix *w, int64_t first, int64_t last, const void *g, const void *x, void *dx, float *dw,
                     int64_t n);
    /* total[o] = sum of g[o] over the lanes */
    void (*sums)(int64_t first, int64_t last, const void *g, float *total, int64_t n);
} kernels;

extern const kernels regrow_portable, regrow_avx2, regrow_avx512;
extern const kernels regrow_portable_half, regrow_avx2_half, regrow_avx512_half, regrow_avx512bf16_half;

#endif
