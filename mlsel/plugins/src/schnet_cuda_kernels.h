// What the GPU does in the compressed mode; for schnet_cuda.cu alone.
//
// Every pair stands in the list of both of its rows, so that each row gathers for itself what the
// CPU's half list scatters: no atomic operations, and the same sums at every run. What two own
// atoms do to each other is computed twice; arithmetic is what a GPU has too much of.
#ifndef MLSEL_SCHNET_CUDA_KERNELS_H
#define MLSEL_SCHNET_CUDA_KERNELS_H

#include <cuda_runtime.h>

#include "schnet_kernel.h"

namespace mlsel {
namespace {

constexpr int WARP = 32;
constexpr int THREADS = 128;         // of a block, in all kernels
constexpr int WARPS = THREADS / WARP;
constexpr unsigned ALL = 0xffffffffu;
constexpr int SUMS = 9;              // a row's force and virial
constexpr int TOTALS = 8;            // virial, pairs, whether two atoms are at the same place

/// A layer as the kernels see it.
template <typename Real> struct Matrix {
  const Real *numbers, *bias;
  int n_in, n_out;
};
/// A pair in this step, as all filters need it. A warp reads it as a few wide words.
template <typename Real> struct alignas(16) Pair {
  Real weights[6];
  int row, knot;    // of the partner; of the first spline
};
/// What its forces need more: slopes of the weights; dx, dy, dz, and knots a length over r.
template <typename Real> struct alignas(16) Direction {
  Real slopes[6], vector[4];
};
/// Candidates of each row, and what is within the cutoff of them in this step.
template <typename Real> struct Pairs {
  int n_local, n_rows;
  const int *first, *partner, *from, *to;    // candidates; the vector is x[to] − x[from]
  int *n;                                    // in this step, packed from first[row] on
  Pair<Real> *pairs;
  Direction<Real> *directions;
};

__constant__ int POWERS[6][6] = {{1, 26, 66, 26, 1, 0},    {-5, -50, 0, 50, 5, 0},
                                 {10, 20, -60, 20, 10, 0}, {-10, 20, 0, -20, 10, 0},
                                 {5, -20, 30, -20, 5, 0},  {-1, 5, -10, 10, -5, 1}};

/// A warp for each row.
template <typename Real>
__global__ void find_pairs(Pairs<Real> pairs, const double *x, double cutoff_squared,
                           double knots_per_length, int n_knots, int *overlap)
{
  const int row = static_cast<int>(blockIdx.x) * WARPS + static_cast<int>(threadIdx.x) / WARP;
  const int lane = static_cast<int>(threadIdx.x) % WARP;
  if (row >= pairs.n_rows) return;
  const int first = pairs.first[row], end = pairs.first[row + 1];
  int found = 0;
  for (int start = first; start < end; start += WARP) {
    const int c = start + lane;
    double d[3] = {}, squared = cutoff_squared;
    if (c < end) {
      const double *a = x + 3 * static_cast<size_t>(pairs.from[c]);
      const double *b = x + 3 * static_cast<size_t>(pairs.to[c]);
      for (int k = 0; k < 3; k++) d[k] = b[k] - a[k];
      squared = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
    }
    const bool near = squared < cutoff_squared;
    const unsigned all_near = __ballot_sync(ALL, near);
    if (near) {
      const size_t p = static_cast<size_t>(first) + found + __popc(all_near & ((1u << lane) - 1));
      if (squared == 0.0) *overlap = 1;
      const double r = sqrt(squared), place = r * knots_per_length;
      const int knot = min(static_cast<int>(place), n_knots - 2);
      const Real t = static_cast<Real>(place - knot);
      Pair<Real> pair;
      Direction<Real> direction;
      pair.row = pairs.partner[c];
      pair.knot = knot;
      for (int s = 0; s < 6; s++) {
        Real value = static_cast<Real>(POWERS[5][s]), slope = value;
        for (int power = 4; power > 0; power--) {
          value = value * t + static_cast<Real>(POWERS[power][s]);
          slope = slope * t + value;
        }
        value = value * t + static_cast<Real>(POWERS[0][s]);
        pair.weights[s] = value / static_cast<Real>(120);
        direction.slopes[s] = slope / static_cast<Real>(120);
      }
      for (int k = 0; k < 3; k++) direction.vector[k] = static_cast<Real>(d[k]);
      direction.vector[3] = static_cast<Real>(knots_per_length / r);
      pairs.pairs[p] = pair;
      pairs.directions[p] = direction;
    }
    found += __popc(all_near);
  }
  if (lane == 0) pairs.n[row] = found;
}

template <typename Real> __device__ Real combine(const Real *weights, const Real *c, int width)
{
  Real even = weights[0] * c[0], odd = weights[1] * c[width];
  even += weights[2] * c[2 * width];
  odd += weights[3] * c[3 * width];
  even += weights[4] * c[4 * width];
  odd += weights[5] * c[5 * width];
  return even + odd;
}

/// out[i] = Σ_j W(r_ij) y[j] of own rows; a warp for each 32 filters of a row.
template <typename Real>
__global__ void messages(Pairs<Real> pairs, const Real *table, const Real *y, int width, Real *out)
{
  const int strips = width / WARP;
  const long warp = static_cast<long>(blockIdx.x) * WARPS + threadIdx.x / WARP;
  const int i = static_cast<int>(warp / strips);
  const int f = static_cast<int>(warp % strips) * WARP + static_cast<int>(threadIdx.x) % WARP;
  if (i >= pairs.n_local) return;
  Real total = 0;
  const int first = pairs.first[i], end = first + pairs.n[i];
#pragma unroll 4
  for (int p = first; p < end; p++) {
    const Pair<Real> pair = pairs.pairs[p];
    const Real w =
        combine(pair.weights, table + static_cast<size_t>(pair.knot) * width + f, width);
    total += w * y[static_cast<size_t>(pair.row) * width + f];
  }
  out[static_cast<size_t>(i) * width + f] = total;
}

/// The way back: y_gradient[i] = Σ_j W(r_ij) gradient[j] (unless null), and what 32 of this
/// layer's filters give to a row's force and virial. Gradients by messages exist for own rows alone.
template <typename Real>
__global__ void gather_back(Pairs<Real> pairs, const Real *table, const Real *y,
                            const Real *gradient, int width, Real *y_gradient, double *sums,
                            bool is_first)
{
  const int strips = width / WARP;
  const long warp = static_cast<long>(blockIdx.x) * WARPS + threadIdx.x / WARP;
  const int row = static_cast<int>(warp / strips), lane = static_cast<int>(threadIdx.x) % WARP;
  if (row >= pairs.n_rows) return;
  const int f = static_cast<int>(warp % strips) * WARP + lane;
  const size_t at = static_cast<size_t>(row) * width + f;
  const Real y_i = y[at], g_i = row < pairs.n_local ? gradient[at] : Real(0);
  Real y_total = 0, part[SUMS] = {};
  const int first = pairs.first[row], end = first + pairs.n[row];
#pragma unroll 4
  for (int p = first; p < end; p++) {
    const Pair<Real> pair = pairs.pairs[p];
    const Direction<Real> direction = pairs.directions[p];
    const size_t at_j = static_cast<size_t>(pair.row) * width + f;
    const Real g_j = pair.row < pairs.n_local ? gradient[at_j] : Real(0);
    const Real *c = table + static_cast<size_t>(pair.knot) * width + f, *d = direction.vector;
    if (y_gradient) y_total += combine(pair.weights, c, width) * g_j;
    const Real slope =
        combine(direction.slopes, c, width) * (g_i * y[at_j] + g_j * y_i) * d[3];
    const Real fx = slope * d[0], fy = slope * d[1], fz = slope * d[2];
    part[0] += fx;
    part[1] += fy;
    part[2] += fz;
    part[3] += fx * d[0];
    part[4] += fy * d[1];
    part[5] += fz * d[2];
    part[6] += fx * d[1];
    part[7] += fx * d[2];
    part[8] += fy * d[2];
  }
  if (y_gradient) y_gradient[at] = y_total;
  for (int k = 0; k < SUMS; k++) {
    double total = static_cast<double>(part[k]);
    for (int apart = WARP / 2; apart; apart /= 2) total += __shfl_xor_sync(ALL, total, apart);
    if (lane) continue;
    if (k >= 3) total *= -0.5;    // a pair's virial is shared by its two rows
    double *to = sums + static_cast<size_t>(warp) * SUMS + k;
    *to = is_first ? total : *to + total;
  }
}

/// A row's force and virial from those of its strips of filters.
__global__ void fold(int n_rows, int strips, const double *of_strips, double *sums)
{
  const long k = static_cast<long>(blockIdx.x) * THREADS + threadIdx.x;
  if (k >= static_cast<long>(n_rows) * SUMS) return;
  const long row = k / SUMS, which = k % SUMS;
  double total = 0.0;
  for (int strip = 0; strip < strips; strip++)
    total += of_strips[(row * strips + strip) * SUMS + which];
  sums[k] = total;
}

template <typename Real> __device__ void activate(Activation kind, Real x, Real &value, Real &slope)
{
  value = x;
  slope = 1;
  if (kind == Activation::tanh) {
    value = tanh(x);
    slope = 1 - value * value;
  } else if (kind == Activation::silu) {
    const Real e = exp(-fabs(x));
    slope = (x < 0 ? e : Real(1)) / (1 + e);
    value = x * slope;
    slope += value * (1 - slope);
  } else if (kind == Activation::shifted_softplus) {
    const Real e = exp(-fabs(x));
    slope = (x < 0 ? e : Real(1)) / (1 + e);
    value = (x < 0 ? Real(0) : x) + log1p(e) - static_cast<Real>(0.69314718055994530942);
  }
}

/// `N` rows from `first` on through a layer, one column a thread.
template <int N, typename Real, typename Put>
__device__ void product_of(const Matrix<Real> &matrix, const Real *x, int stride, int first,
                           int column, const Put &put)
{
  Real total[N];
  const Real bias = matrix.bias ? matrix.bias[column] : Real(0);
#pragma unroll
  for (int r = 0; r < N; r++) total[r] = bias;
  const Real *a = matrix.numbers + column, *rows = x + first * stride;
#pragma unroll 8
  for (int k = 0; k < matrix.n_in; k++) {
    const Real factor = a[static_cast<size_t>(k) * matrix.n_out];
#pragma unroll
    for (int r = 0; r < N; r++) total[r] += factor * rows[r * stride + k];
  }
#pragma unroll
  for (int r = 0; r < N; r++) put(first + r, column, total[r]);
}

/// A block's rows through a layer: put(r, column, Σ x[r] A + b). x: rows of `stride` in shared
/// memory, ROWS of them. Where there are fewer columns than threads, these share the rows.
template <int ROWS, typename Real, typename Put>
__device__ void product(const Matrix<Real> &matrix, const Real *x, int stride, const Put &put)
{
  constexpr int HALF = ROWS > 1 ? ROWS / 2 : 1, QUARTER = ROWS > 3 ? ROWS / 4 : HALF;
  const int thread = static_cast<int>(threadIdx.x);
  if (matrix.n_out <= THREADS / 4) {
    const int first = thread / (THREADS / 4) * QUARTER, column = thread % (THREADS / 4);
    if (first < ROWS && column < matrix.n_out)
      product_of<QUARTER>(matrix, x, stride, first, column, put);
  } else if (matrix.n_out <= THREADS / 2) {
    const int first = thread / (THREADS / 2) * HALF, column = thread % (THREADS / 2);
    if (first < ROWS && column < matrix.n_out)
      product_of<HALF>(matrix, x, stride, first, column, put);
  } else {
    for (int column = thread; column < matrix.n_out; column += THREADS)
      product_of<ROWS>(matrix, x, stride, 0, column, put);
  }
  __syncthreads();
}

extern __shared__ double shared_memory[];

/// Rows of global memory into shared; rows behind the last are zero.
template <int ROWS, typename Real>
__device__ void take(const Real *from, int width, int n, int row, int n_rows, Real *to, int stride)
{
  for (int k = static_cast<int>(threadIdx.x); k < ROWS * n; k += THREADS) {
    const int r = k / n, column = k % n;
    to[r * stride + column] =
        row + r < n_rows ? from[static_cast<size_t>(row + r) * width + column] : Real(0);
  }
  __syncthreads();
}

/// What the dense layers need beside their matrices.
template <typename Real> struct Rows {
  int n_local, n_basis, n_filters, width, stride;    // width: of messages; stride: in shared memory
  const int *species;
  Real *x, *gradient;    // n_basis a row
};

/// After layer k's messages: x += f2out(messages), and what the next layer sends (unless null).
template <int ROWS, typename Real>
__global__ void update(Rows<Real> rows, const Real *message, Matrix<Real> f2out0,
                       Matrix<Real> f2out1, Activation inner, Real *slopes, const Real *embedding,
                       Matrix<Real> in2f, Real *y)
{
  Real *a = reinterpret_cast<Real *>(shared_memory), *b = a + ROWS * rows.stride;
  const int row = static_cast<int>(blockIdx.x) * ROWS;
  take<ROWS>(message, rows.width, rows.n_filters, row, rows.n_local, a, rows.stride);
  product<ROWS>(f2out0, a, rows.stride, [&](int r, int column, Real sum) {
    Real value, slope;
    activate(inner, sum, value, slope);
    b[r * rows.stride + column] = value;
    if (row + r < rows.n_local)
      slopes[static_cast<size_t>(row + r) * rows.n_basis + column] = slope;
  });
  product<ROWS>(f2out1, b, rows.stride, [&](int r, int column, Real sum) {
    if (row + r >= rows.n_local) {
      a[r * rows.stride + column] = Real(0);
      return;
    }
    Real *x = rows.x + static_cast<size_t>(row + r) * rows.n_basis + column;
    const Real before =
        embedding ? embedding[max(0, rows.species[row + r]) * rows.n_basis + column] : *x;
    *x = a[r * rows.stride + column] = before + sum;
  });
  if (!y) return;
  product<ROWS>(in2f, a, rows.stride, [&](int r, int column, Real sum) {
    if (row + r < rows.n_local) y[static_cast<size_t>(row + r) * rows.width + column] = sum;
  });
}

/// From the gradient by x after a layer (in shared memory), that by its messages.
template <int ROWS, typename Real>
__device__ void by_messages(const Rows<Real> &rows, int row, const Real *gradient, Real *scratch,
                            Matrix<Real> f2out1, Matrix<Real> f2out0, const Real *slopes,
                            Real *message_gradient)
{
  product<ROWS>(f2out1, gradient, rows.stride, [&](int r, int column, Real sum) {
    scratch[r * rows.stride + column] = row + r < rows.n_local
        ? sum * slopes[static_cast<size_t>(row + r) * rows.n_basis + column]
        : Real(0);
  });
  product<ROWS>(f2out0, scratch, rows.stride, [&](int r, int column, Real sum) {
    if (row + r < rows.n_local)
      message_gradient[static_cast<size_t>(row + r) * rows.width + column] = sum;
  });
}

constexpr int MAX_READOUT = 8;
/// An output network. Where there is one for each element, they run one after the other over all
/// rows, each keeps what is its own element's, and the last goes on.
template <typename Real> struct Readout {
  int n_layers;
  int element, n_elements;    // whose it is, of how many; 0 of 1: everybody's
  Matrix<Real> forwards[MAX_READOUT], backwards[MAX_READOUT];
  Activation activation;
};

/// Energies, their gradient by x, and by the last layer's messages.
template <int ROWS, typename Real>
__global__ void read_out(Rows<Real> rows, Readout<Real> readout, const double *offsets,
                         double *energies, Matrix<Real> f2out1, Matrix<Real> f2out0,
                         const Real *slopes, Real *message_gradient)
{
  const int size = ROWS * rows.stride;
  Real *a = reinterpret_cast<Real *>(shared_memory), *b = a + size, *layer_slopes = b + size;
  const int row = static_cast<int>(blockIdx.x) * ROWS;
  const bool several = readout.n_elements > 1;
  const auto is_mine = [&](int r) {    // atoms of no element count as the first's, as in `update`
    return row + r < rows.n_local &&
        (!several || max(0, rows.species[row + r]) == readout.element);
  };
  take<ROWS>(rows.x, rows.n_basis, rows.n_basis, row, rows.n_local, a, rows.stride);
  const int last = readout.n_layers - 1;
  for (int k = 0; k < last; k++) {
    product<ROWS>(readout.forwards[k], a, rows.stride, [&](int r, int column, Real sum) {
      activate(readout.activation, sum, b[r * rows.stride + column],
               layer_slopes[k * size + r * rows.stride + column]);
    });
    Real *swap = a;
    a = b;
    b = swap;
  }
  product<ROWS>(readout.forwards[last], a, rows.stride, [&](int r, int, Real sum) {
    if (!is_mine(r)) return;
    const int species = rows.species[row + r];
    energies[row + r] = species < 0 ? 0.0 : offsets[species] + static_cast<double>(sum);
  });
  // backwards: the gradient by the energy is 1
  for (int r = static_cast<int>(threadIdx.x); r < ROWS; r += THREADS) a[r * rows.stride] = Real(1);
  __syncthreads();
  for (int k = last; k >= 0; k--) {
    product<ROWS>(readout.backwards[k], a, rows.stride, [&](int r, int column, Real sum) {
      if (k > 0) sum *= layer_slopes[(k - 1) * size + r * rows.stride + column];
      b[r * rows.stride + column] = sum;
      if (k == 0 && is_mine(r))
        rows.gradient[static_cast<size_t>(row + r) * rows.n_basis + column] = sum;
    });
    Real *swap = a;
    a = b;
    b = swap;
  }
  if (several) {
    if (readout.element < readout.n_elements - 1) return;
    take<ROWS>(rows.gradient, rows.n_basis, rows.n_basis, row, rows.n_local, a, rows.stride);
  }
  by_messages<ROWS>(rows, row, a, b, f2out1, f2out0, slopes, message_gradient);
}

/// Adds to the gradient by x what comes through a layer's messages, then the layer before it.
template <int ROWS, typename Real>
__global__ void receive(Rows<Real> rows, const Real *y_gradient, const Real *foreign,
                        Matrix<Real> in2f, Matrix<Real> f2out1, Matrix<Real> f2out0,
                        const Real *slopes, Real *message_gradient)
{
  Real *a = reinterpret_cast<Real *>(shared_memory), *b = a + ROWS * rows.stride;
  const int row = static_cast<int>(blockIdx.x) * ROWS;
  take<ROWS>(y_gradient, rows.width, rows.n_filters, row, rows.n_local, a, rows.stride);
  if (foreign) {
    for (int k = static_cast<int>(threadIdx.x); k < ROWS * rows.n_filters; k += THREADS) {
      const int r = k / rows.n_filters, column = k % rows.n_filters;
      if (row + r < rows.n_local)
        a[r * rows.stride + column] +=
            foreign[static_cast<size_t>(row + r) * rows.width + column];
    }
    __syncthreads();
  }
  product<ROWS>(in2f, a, rows.stride, [&](int r, int column, Real sum) {
    if (row + r >= rows.n_local) {
      b[r * rows.stride + column] = Real(0);
      return;
    }
    Real *to = rows.gradient + static_cast<size_t>(row + r) * rows.n_basis + column;
    *to = b[r * rows.stride + column] = *to + sum;
  });
  by_messages<ROWS>(rows, row, b, a, f2out1, f2out0, slopes, message_gradient);
}

/// The virial of all rows, in one order whatever the machine: one block. And the number of pairs.
__global__ void add_virials(int n_rows, const double *sums, const int *n_pairs, int *overlap,
                            double *out)
{
  __shared__ double parts[7][THREADS];
  double mine[7] = {};
  for (int row = static_cast<int>(threadIdx.x); row < n_rows; row += THREADS) {
    for (int k = 0; k < 6; k++) mine[k] += sums[static_cast<size_t>(row) * SUMS + 3 + k];
    mine[6] += 0.5 * n_pairs[row];    // each pair stands in two rows
  }
  for (int k = 0; k < 7; k++) parts[k][threadIdx.x] = mine[k];
  __syncthreads();
  if (threadIdx.x < 7) {
    double total = 0.0;
    for (int t = 0; t < THREADS; t++) total += parts[threadIdx.x][t];
    out[threadIdx.x] = total;
  } else if (threadIdx.x == 7) {
    out[7] = *overlap;
    *overlap = 0;
  }
}

}    // namespace
}    // namespace mlsel
#endif
