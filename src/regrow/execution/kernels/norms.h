/* Normalisation of activations in lanes, x [features][n]: layer normalisation reduces over the features of each lane,
   batch normalisation over the lanes of each feature. And Swish, which may follow. */
#ifndef REGROW_NORMS_H
#define REGROW_NORMS_H

#include <stdint.h>

/* The sizes, and a part of the work: lanes first .. last, or features first .. last, as each kernel says. */
typedef struct {
    int64_t features, n, first, last;
} extent;

/* y = (x - mean) / sqrt(var + eps) * weight + bias; weight or bias null: 1, 0. */
typedef struct {
    const float *mean, *var, *weight, *bias;
    float eps;
} affine;

/* The kernels of one instruction set, for activations of one type (float, or bfloat16). Each is run by one thread. */
typedef struct {
    /* mean and var of lanes first .. last */
    void (*layer_moments)(extent e, const void *x, float *mean, float *var);
    /* y of features first .. last */
    void (*layer_apply)(extent e, affine a, const void *x, void *y);
    /* For lanes first .. last: sums[0][lane] = sum_f g w; sums[1][lane] = sum_f g w (x - mean) */
    void (*layer_sums)(extent e, affine a, const void *g, const void *x, float *sums);
    /* dx, dw, db of features first .. last */
    void (*layer_gradients)(extent e, affine a, const void *g, const void *x, const float *sums, void *dx, float *dw,
                            float *db);
    /* y, mean and var of features first .. last, or y by the mean and var `given`; a's mean and var are not read.
       y = max(0 if `relu`, normalised x + add); add may be null */
    void (*batch)(extent e, affine a, int given, const void *x, const void *add, int relu, void *y, float *mean,
                  float *var);
    /* dx, dadd unless it is null, dw, db of features first .. last; y is needed for what was added and cut by relu */
    void (*batch_gradients)(extent e, affine a, const void *g, const void *x, const void *y, int relu, void *dx,
                            void *dadd, float *dw, float *db);
    /* y = x sigmoid(beta x) of elements first .. last, and dx from the gradient of y */
    void (*swish)(int64_t first, int64_t last, float beta, const void *x, void *y);
    void (*swish_gradient)(int64_t first, int64_t last, float beta, const void *g, const void *x, void *dx);
} norms;

extern const norms regrow_norms_portable, regrow_norms_avx2, regrow_norms_avx512;
extern const norms regrow_norms_portable_half, regrow_norms_avx2_half, regrow_norms_avx512_half;

#endif
