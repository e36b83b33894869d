/* Fused layers for training on a CPU (models/fused.py): what PyTorch does between two matrix products in five to ten passes
 * over memory, here in one. Rows are contiguous float32; results depend on the number of threads only through the order of
 * the sums over rows. NaN passes through everything, so that the trainer sees it. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SIMPLEX 8
#define EPSILON 1e-5f /* of LayerNorm, as in PyTorch */

/* exp(x) to 2 ulp; Cephes' polynomial, written without branches so that the compiler vectorises it. */
static inline float exponential(float x) {
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* Mish: y tanh(softplus(y)) = y w / (w + 2) with w = e (e + 2), e = exp(y). */
static inline float mish(float y) {
    float e = exponential(y > 20.0f ? 20.0f : y);
    float w = e * (e + 2.0f);
    return y * (w / (w + 2.0f));
}

static inline float mish_slope(float y) {
    float e = exponential(y > 20.0f ? 20.0f : y);
    float w = e * (e + 2.0f), inverse = 1.0f / (w + 2.0f);
    return w * inverse + y * (4.0f * e * (1.0f + e) * inverse * inverse);
}

static void simplex(float *restrict row, int64_t columns) {
    for (int64_t j = 0; j < columns; j += SIMPLEX) {
        float *group = row + j, top = group[0], sum = 0.0f;
        for (int i = 1; i < SIMPLEX; i++) top = group[i] > top ? group[i] : top;
        for (int i = 0; i < SIMPLEX; i++) group[i] = exponential(group[i] - top);
        for (int i = 0; i < SIMPLEX; i++) sum += group[i];
        for (int i = 0; i < SIMPLEX; i++) group[i] /= sum;
    }
}

/* out = act(LayerNorm((product + bias) * dropout) * gain + shift). `product` (groups, rows, columns) becomes the normalised rows
 * and `deviation` (groups * rows) their inverse deviations, both for the backward pass; `dropout` may be NULL. */
void norm_forward(float *product, const float *bias, const float *dropout, const float *gain, const float *shift,
                  float *deviation, float *out, int64_t groups, int64_t rows, int64_t columns, int is_simplex, int threads) {
    (void)threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < groups * rows; r++) {
        int64_t at = r / rows * columns;
        float *restrict x = product + r * columns;
        float *restrict y = out + r * columns;
        const float *restrict b = bias + at, *restrict g = gain + at, *restrict s = shift + at;
        const float *restrict d = dropout ? dropout + r * columns : NULL;
        float sum = 0.0f, squares = 0.0f;
        if (d)
            for (int64_t j = 0; j < columns; j++) x[j] = (x[j] + b[j]) * d[j];
        else
            for (int64_t j = 0; j < columns; j++) x[j] += b[j];
        for (int64_t j = 0; j < columns; j++) sum += x[j];
        float mean = sum / columns;
        for (int64_t j = 0; j < columns; j++) squares += (x[j] - mean) * (x[j] - mean);
        float inverse = 1.0f / sqrtf(squares / columns + EPSILON);
        deviation[r] = inverse;
        for (int64_t j = 0; j < columns; j++) x[j] = (x[j] - mean) * inverse;
        if (is_simplex) {
            for (int64_t j = 0; j < columns; j++) y[j] = x[j] * g[j] + s[j];
            simplex(y, columns);
        } else {
            for (int64_t j = 0; j < columns; j++) y[j] = mish(x[j] * g[j] + s[j]);
        }
    }
}

/* One row of `norm_backward`: `dx` becomes the gradient of the product; `sums` (3, columns), where wanted, take those of gain,
 * shift and bias. */
static void norm_row(const float *restrict dout, const float *restrict x, const float *restrict out, const float *restrict g,
                     const float *restrict s, const float *restrict d, float inverse, float *restrict dx, float *restrict sums,
                     int64_t columns) {
    float first = 0.0f, second = 0.0f;
    if (out) {
        for (int64_t j = 0; j < columns; j += SIMPLEX) {
            float inner = 0.0f;
            for (int i = 0; i < SIMPLEX; i++) inner += out[j + i] * dout[j + i];
            for (int i = 0; i < SIMPLEX; i++) dx[j + i] = out[j + i] * (dout[j + i] - inner);
        }
    } else {
        for (int64_t j = 0; j < columns; j++) dx[j] = dout[j] * mish_slope(x[j] * g[j] + s[j]);
    }
    if (sums) {
        for (int64_t j = 0; j < columns; j++) sums[j] += dx[j] * x[j];
        for (int64_t j = 0; j < columns; j++) sums[columns + j] += dx[j];
    }
    for (int64_t j = 0; j < columns; j++) {
        dx[j] *= g[j];
        first += dx[j];
        second += dx[j] * x[j];
    }
    first /= columns;
    second /= columns;
    for (int64_t j = 0; j < columns; j++) dx[j] = inverse * (dx[j] - first - x[j] * second);
    if (d)
        for (int64_t j = 0; j < columns; j++) dx[j] *= d[j];
    if (sums)
        for (int64_t j = 0; j < columns; j++) sums[2 * columns + j] += dx[j];
}

/* Gradients of norm_forward: `dproduct` like the product; those of gain, shift and bias (groups, columns) are added to `dgain`,
 * `dshift` and `dbias`, or skipped where these are NULL. `out` is NULL for Mish. Returns 0, or 1 when memory is short. */
int norm_backward(const float *dout, const float *normalised, const float *out, const float *gain, const float *shift,
                  const float *dropout, const float *deviation, float *dproduct, float *dgain, float *dshift, float *dbias,
                  int64_t groups, int64_t rows, int64_t columns, int threads) {
    int64_t size = groups * 3 * columns;
    float *partial = dgain ? calloc((size_t)(threads * size), sizeof(float)) : NULL;
    if (dgain && !partial) return 1;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++)
        for (int64_t g = 0; g < groups; g++)
            for (int64_t r = g * rows + t * rows / threads; r < g * rows + (t + 1) * rows / threads; r++)
                norm_row(dout + r * columns, normalised + r * columns, out ? out + r * columns : NULL, gain + g * columns,
                         shift + g * columns, dropout ? dropout + r * columns : NULL, deviation[r], dproduct + r * columns,
                         partial ? partial + t * size + g * 3 * columns : NULL, columns);
    if (!partial) return 0;
    for (int t = 0; t < threads; t++)
        for (int64_t g = 0; g < groups; g++) {
            const float *sums = partial + t * size + g * 3 * columns;
            for (int64_t j = 0; j < columns; j++) dgain[g * columns + j] += sums[j];
            for (int64_t j = 0; j < columns; j++) dshift[g * columns + j] += sums[columns + j];
            for (int64_t j = 0; j < columns; j++) dbias[g * columns + j] += sums[2 * columns + j];
        }
    free(partial);
    return 0;
}

static float log_sum_exp(const float *restrict x, int64_t bins) {
    float top = x[0], sum = 0.0f;
    for (int64_t j = 1; j < bins; j++) top = x[j] > top ? x[j] : top;
    for (int64_t j = 0; j < bins; j++) sum += exponential(x[j] - top);
    return top + logf(sum);
}

/* Position of a scalar among the symlog bins, 0 .. bins - 1. */
static float bin_of(float value, int64_t bins, float limit) {
    float s = copysignf(log1pf(fabsf(value)), value);
    s = s > limit ? limit : s;
    s = s < -limit ? -limit : s;
    return (s + limit) * (float)(bins - 1) / (2.0f * limit);
}

/* Cross entropy of two-hot logits (rows, bins) against values (targets): row r belongs to value r % targets. */
void two_hot_forward(const float *logits, const float *values, float *partition, float *loss, int64_t rows, int64_t targets,
                     int64_t bins, float limit, int threads) {
    (void)threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < rows; r++) {
        const float *x = logits + r * bins;
        float position = bin_of(values[r % targets], bins, limit);
        partition[r] = log_sum_exp(x, bins);
        if (position != position) { /* not a number: no bin */
            loss[r] = position;
            continue;
        }
        int64_t low = (int64_t)position < bins - 1 ? (int64_t)position : bins - 2;
        float share = position - (float)low;
        loss[r] = partition[r] - (1.0f - share) * x[low] - share * x[low + 1];
    }
}

void two_hot_backward(const float *dloss, const float *logits, const float *values, const float *partition, float *dlogits,
                      int64_t rows, int64_t targets, int64_t bins, float limit, int threads) {
    (void)threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < rows; r++) {
        const float *restrict x = logits + r * bins;
        float *restrict dx = dlogits + r * bins;
        float position = bin_of(values[r % targets], bins, limit), scale = dloss[r], shift = partition[r];
        for (int64_t j = 0; j < bins; j++) dx[j] = scale * exponential(x[j] - shift);
        if (position != position) continue;
        int64_t low = (int64_t)position < bins - 1 ? (int64_t)position : bins - 2;
        float share = position - (float)low;
        dx[low] -= scale * (1.0f - share);
        dx[low + 1] -= scale * share;
    }
}

/* Scalar that two-hot logits (rows, bins) stand for: symexp of the mean bin, which `mean` keeps with `partition`. */
void expectation_forward(const float *logits, float *partition, float *mean, float *value, int64_t rows, int64_t bins, float limit,
                         int threads) {
    (void)threads;
    float step = 2.0f * limit / (float)(bins - 1);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < rows; r++) {
        const float *restrict x = logits + r * bins;
        float top = x[0], weight = 0.0f, sum = 0.0f;
        for (int64_t j = 1; j < bins; j++) top = x[j] > top ? x[j] : top;
        for (int64_t j = 0; j < bins; j++) {
            float e = exponential(x[j] - top);
            weight += e;
            sum += e * ((float)(int32_t)j * step - limit);
        }
        partition[r] = top + logf(weight);
        mean[r] = sum /= weight;
        value[r] = copysignf(expm1f(fabsf(sum)), sum);
    }
}

void expectation_backward(const float *dvalue, const float *logits, const float *partition, const float *mean, float *dlogits,
                          int64_t rows, int64_t bins, float limit, int threads) {
    (void)threads;
    float step = 2.0f * limit / (float)(bins - 1);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < rows; r++) {
        const float *restrict x = logits + r * bins;
        float *restrict dx = dlogits + r * bins;
        float shift = partition[r], centre = mean[r], scale = dvalue[r] * exponential(fabsf(centre));
        for (int64_t j = 0; j < bins; j++)
            dx[j] = scale * exponential(x[j] - shift) * ((float)(int32_t)j * step - limit - centre);
    }
}
