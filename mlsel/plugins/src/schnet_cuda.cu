// The compressed mode on a GPU: libmlsel_cuda.so, built where nvcc is.
//
// Every pair stands in the list of both of its rows, so that each row gathers for itself what the
// CPU's half list scatters: no atomic operations, and the same sums at every run. What two own atoms
// do to each other is computed twice; arithmetic is what a GPU has too much of.

#include "schnet_cuda.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "schnet_kernel.h"
#include "schnet_parts.h"
#include "spline.h"

namespace mlsel {
namespace {

constexpr int WARP = 32;
constexpr int THREADS = 128;         // of a block, in all kernels
constexpr int WARPS = THREADS / WARP;
constexpr unsigned ALL = 0xffffffffu;
constexpr int SUMS = 9;              // a row's force and virial

void check(cudaError_t code, const char *what)
{
  if (code != cudaSuccess)
    throw std::runtime_error(std::string("the GPU fails to ") + what + ": " +
                             cudaGetErrorString(code));
}

/// Memory of the GPU.
template <typename T> class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(const DeviceBuffer &) = delete;
  DeviceBuffer &operator=(const DeviceBuffer &) = delete;
  DeviceBuffer(DeviceBuffer &&other) noexcept : data_(other.data_), size_(other.size_)
  {
    other.data_ = nullptr;
    other.size_ = 0;
  }
  ~DeviceBuffer()
  {
    if (data_) cudaFree(data_);
  }

  /// Room for n; what it held is lost when it grows.
  void need(size_t n)
  {
    if (n <= size_) return;
    if (size_) n += n / 8;
    if (data_) check(cudaFree(data_), "free memory");
    data_ = nullptr;
    size_ = 0;
    check(cudaMalloc(reinterpret_cast<void **>(&data_), n * sizeof(T)), "give memory");
    size_ = n;
  }
  void fill(const std::vector<T> &values)
  {
    need(std::max<size_t>(1, values.size()));
    upload(values.data(), 0, values.size());
  }
  void upload(const T *from, size_t begin, size_t n)
  {
    if (n)
      check(cudaMemcpyAsync(data_ + begin, from, n * sizeof(T), cudaMemcpyHostToDevice),
            "take numbers");
  }
  void download(T *to, size_t begin, size_t n) const
  {
    if (n)
      check(cudaMemcpy(to, data_ + begin, n * sizeof(T), cudaMemcpyDeviceToHost), "give numbers");
  }
  T *get() const { return data_; }
  size_t size() const { return size_; }

 private:
  T *data_ = nullptr;
  size_t size_ = 0;
};

/// A linear layer y = x A + b, A row by row as n_in × n_out, and its transpose.
template <typename Real> struct Linear {
  int n_in = 0, n_out = 0;
  DeviceBuffer<Real> matrix, transposed, bias;

  Linear(const std::vector<double> &weight, int n_in_, const std::vector<double> *b)
      : n_in(n_in_), n_out(static_cast<int>(weight.size()) / n_in_)
  {
    std::vector<Real> forward(weight.size()), back(weight.begin(), weight.end());
    for (int out = 0; out < n_out; out++)
      for (int in = 0; in < n_in; in++)
        forward[static_cast<size_t>(in) * n_out + out] =
            back[static_cast<size_t>(out) * n_in + in];
    matrix.fill(forward);
    transposed.fill(back);
    if (b) bias.fill(std::vector<Real>(b->begin(), b->end()));
  }
};

/// A layer as the kernels see it.
template <typename Real> struct Matrix {
  const Real *numbers, *bias;
  int n_in, n_out;
};
template <typename Real> Matrix<Real> forwards(const Linear<Real> &layer)
{
  return {layer.matrix.get(), layer.bias.get(), layer.n_in, layer.n_out};
}
template <typename Real> Matrix<Real> backwards(const Linear<Real> &layer)
{
  return {layer.transposed.get(), nullptr, layer.n_out, layer.n_in};
}

/// Candidates of each row, and what is within the cutoff of them in this step.
template <typename Real> struct Pairs {
  int n_local, n_rows;
  const int *first, *partner, *from, *to;    // candidates; the vector is x[to] − x[from]
  int *n, *row, *knot;                       // in this step, packed from first[row] on
  Real *weights, *slopes;                    // SPLINES numbers for a pair
  Real *vector;                              // of a pair: dx, dy, dz, and knots a length over r
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
      pairs.row[p] = pairs.partner[c];
      pairs.knot[p] = knot;
      for (int s = 0; s < 6; s++) {
        Real value = static_cast<Real>(POWERS[5][s]), slope = value;
        for (int power = 4; power > 0; power--) {
          value = value * t + static_cast<Real>(POWERS[power][s]);
          slope = slope * t + value;
        }
        value = value * t + static_cast<Real>(POWERS[0][s]);
        pairs.weights[p * SPLINES + s] = value / static_cast<Real>(120);
        pairs.slopes[p * SPLINES + s] = slope / static_cast<Real>(120);
      }
      for (int k = 0; k < 3; k++) pairs.vector[4 * p + k] = static_cast<Real>(d[k]);
      pairs.vector[4 * p + 3] = static_cast<Real>(knots_per_length / r);
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
    const Real w = combine(pairs.weights + static_cast<size_t>(p) * SPLINES,
                           table + static_cast<size_t>(pairs.knot[p]) * width + f, width);
    total += w * y[static_cast<size_t>(pairs.row[p]) * width + f];
  }
  out[static_cast<size_t>(i) * width + f] = total;
}

/// The way back: y_gradient[i] = Σ_j W(r_ij) gradient[j] (unless null), and what 32 of this layer's
/// filters give to a row's force and virial. Gradients by messages exist for own rows alone.
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
    const int j = pairs.row[p];
    const size_t at_j = static_cast<size_t>(j) * width + f;
    const Real g_j = j < pairs.n_local ? gradient[at_j] : Real(0);
    const Real *c = table + static_cast<size_t>(pairs.knot[p]) * width + f;
    const Real *d = pairs.vector + 4 * static_cast<size_t>(p);
    if (y_gradient)
      y_total += combine(pairs.weights + static_cast<size_t>(p) * SPLINES, c, width) * g_j;
    const Real slope = combine(pairs.slopes + static_cast<size_t>(p) * SPLINES, c, width) *
        (g_i * y[at_j] + g_j * y_i) * d[3];
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

/// A block's rows through a layer: put(r, column, Σ x[r] A + b). x: rows of `stride` in shared
/// memory, ROWS of them.
template <int ROWS, typename Real, typename Put>
__device__ void product(const Matrix<Real> &matrix, const Real *x, int stride, const Put &put)
{
  for (int column = static_cast<int>(threadIdx.x); column < matrix.n_out; column += THREADS) {
    Real total[ROWS];
    const Real bias = matrix.bias ? matrix.bias[column] : Real(0);
    for (int r = 0; r < ROWS; r++) total[r] = bias;
    for (int k = 0; k < matrix.n_in; k++) {
      const Real a = matrix.numbers[static_cast<size_t>(k) * matrix.n_out + column];
#pragma unroll
      for (int r = 0; r < ROWS; r++) total[r] += a * x[r * stride + k];
    }
    for (int r = 0; r < ROWS; r++) put(r, column, total[r]);
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
    if (row + r < rows.n_local) slopes[static_cast<size_t>(row + r) * rows.n_basis + column] = slope;
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
template <typename Real> struct Readout {
  int n_layers;
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
    if (row + r >= rows.n_local) return;
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
      if (k == 0 && row + r < rows.n_local)
        rows.gradient[static_cast<size_t>(row + r) * rows.n_basis + column] = sum;
    });
    Real *swap = a;
    a = b;
    b = swap;
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
__global__ void add_virials(int n_rows, const double *sums, const int *n_pairs, double *out)
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
  }
}

template <typename Real> class CudaModel : public CompressedModel {
 public:
  CudaModel(const ModelFile &file, int device)
      : device_(device), cutoff_(file.cutoff), n_layers_(file.compressed.n_layers),
        n_basis_(file.compressed.n_atom_basis), n_filters_(file.compressed.n_filters),
        width_((n_filters_ + WARP - 1) / WARP * WARP), n_knots_(file.compressed.n_knots),
        inner_(activation(file.compressed.activation))
  {
    check(cudaSetDevice(device_), "be chosen");
    const Compressed &from = file.compressed;
    for (int k = 0; k < n_layers_; k++) {
      const std::string layer = "layer" + std::to_string(k) + '/';
      in2f_.emplace_back(from.array(layer + "in2f"), n_basis_, nullptr);
      f2out0_.emplace_back(from.array(layer + "f2out0/weight"), n_filters_,
                           &from.array(layer + "f2out0/bias"));
      f2out1_.emplace_back(from.array(layer + "f2out1/weight"), n_basis_,
                           &from.array(layer + "f2out1/bias"));
      tables_.emplace_back();
      tables_.back().fill(table(from.array(layer + "table")));
    }
    int in = n_basis_, widest = std::max(n_basis_, n_filters_);
    for (size_t k = 0; k < from.readout.size(); k++) {
      const std::string layer = "readout" + std::to_string(k) + '/';
      readout_.emplace_back(from.array(layer + "weight"), in, &from.array(layer + "bias"));
      in = from.readout[k];
      widest = std::max(widest, in);
    }
    if (readout_.size() > MAX_READOUT)
      throw std::runtime_error("the GPU's compressed mode knows output networks of up to " +
                               std::to_string(MAX_READOUT) + " layers, this one has " +
                               std::to_string(readout_.size()));
    network_.n_layers = static_cast<int>(readout_.size());
    network_.activation = activation(from.readout_activation);
    for (size_t k = 0; k < readout_.size(); k++) {
      network_.forwards[k] = forwards(readout_[k]);
      network_.backwards[k] = backwards(readout_[k]);
    }
    stride_ = widest;
    rows_in_block_ = 8;
    while (rows_in_block_ > 1 && shared_bytes() > SHARED) rows_in_block_ /= 2;
    if (shared_bytes() > SHARED)
      throw std::runtime_error("the model's layers are too wide for the GPU's compressed mode");

    const auto n_species = file.numbers.size();
    const std::vector<double> &embedding = from.array("embedding"), &in2f = from.array("layer0/in2f");
    embedding_.fill(std::vector<Real>(embedding.begin(), embedding.end()));
    offsets_.fill(file.energy_offsets);
    // before the first layer an atom's features depend on its species alone
    first_y_.assign(n_species * width_, Real(0));
    for (size_t s = 0; s < n_species; s++)
      for (int f = 0; f < n_filters_; f++) {
        double sum = 0.0;
        for (int k = 0; k < n_basis_; k++)
          sum += embedding[s * n_basis_ + k] * in2f[static_cast<size_t>(f) * n_basis_ + k];
        first_y_[s * width_ + f] = static_cast<Real>(sum);
      }
    y_.resize(n_layers_);
    slopes_.resize(n_layers_);
    overlap_.need(1);
    totals_.need(7);
    check(cudaMemset(overlap_.get(), 0, sizeof(int)), "clear memory");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device_), "tell its name");
    name_ = "cuda:" + std::to_string(device_) + " (" + properties.name + ')';
  }

  void set_graph(const Graph &graph) override
  {
    check(cudaSetDevice(device_), "be chosen");
    n_local_ = graph.n_local;
    n_rows_ = graph.n_rows;
    fill_candidates(graph);
    const size_t n_local = std::max(1, n_local_), n_rows = std::max(1, n_rows_);
    species_.fill(std::vector<int>(graph.species, graph.species + n_rows_));
    x_.need(n_local * n_basis_);
    gradient_.need(n_local * n_basis_);
    message_.need(n_local * width_);
    message_gradient_.need(n_local * width_);
    y_gradient_.need(n_rows * width_);
    sums_.need(n_rows * SUMS);
    strip_sums_.need(n_rows * SUMS * (width_ / WARP));
    energies_.need(n_local);
    for (int k = 0; k < n_layers_; k++) {
      y_[k].need(n_rows * width_);
      slopes_[k].need(n_local * n_basis_);
      if (k > 0)    // the padding stays zero
        check(cudaMemset(y_[k].get(), 0, n_rows * width_ * sizeof(Real)), "clear memory");
    }
    check(cudaMemset(message_gradient_.get(), 0, n_local * width_ * sizeof(Real)), "clear memory");
    std::vector<Real> first(n_rows * width_, Real(0));
    for (int row = 0; row < n_rows_; row++)
      if (graph.species[row] >= 0)
        std::copy_n(first_y_.begin() + static_cast<long>(graph.species[row]) * width_, width_,
                    first.begin() + static_cast<long>(row) * width_);
    y_[0].fill(first);
  }

  void compute(const double *x, Exchange *exchange, Result &result) override
  {
    check(cudaSetDevice(device_), "be chosen");
    std::fill(result.virial, result.virial + 6, 0.0);
    result.n_pairs = 0;
    if (n_atoms_) positions_.upload(x, 0, 3 * n_atoms_);
    if (n_rows_)
      find_pairs<Real><<<blocks(n_rows_, WARPS), THREADS>>>(
          pairs(), positions_.get(), cutoff_ * cutoff_, (n_knots_ - 1) / cutoff_, n_knots_,
          overlap_.get());
    dense<8>(exchange);
    collect(result);
  }

  double memory_usage() const override
  {
    return static_cast<double>(sums_.size() * sizeof(double) + first_y_.size() * sizeof(Real));
  }
  const char *kernel() const override { return name_.c_str(); }

 private:
  static constexpr bool is_double = sizeof(Real) == sizeof(double);
  static constexpr size_t SHARED = 48 * 1024;    // what every GPU gives a block

  static unsigned blocks(long n, int each) { return static_cast<unsigned>((n + each - 1) / each); }
  size_t shared_bytes() const
  {
    return sizeof(Real) * rows_in_block_ * stride_ * (2 + std::max<size_t>(1, readout_.size()));
  }

  std::vector<Real> table(const std::vector<double> &knots) const
  {
    const std::vector<double> coefficients =
        spline_coefficients(knots, n_knots_, n_filters_, cutoff_ / (n_knots_ - 1));
    std::vector<Real> table(static_cast<size_t>(n_knots_ + 4) * width_, Real(0));
    for (int row = 0; row < n_knots_ + 4; row++)
      for (int f = 0; f < n_filters_; f++)
        table[static_cast<size_t>(row) * width_ + f] =
            static_cast<Real>(coefficients[static_cast<size_t>(row) * n_filters_ + f]);
    return table;
  }

  /// The half list of own atoms as lists of all rows.
  void fill_candidates(const Graph &graph)
  {
    std::vector<int> first(static_cast<size_t>(n_rows_) + 1, 0);
    const int n = n_local_ ? graph.first[n_local_] : 0;
    for (int i = 0; i < n_local_; i++) {
      first[i + 1] += graph.first[i + 1] - graph.first[i];
      for (int c = graph.first[i]; c < graph.first[i + 1]; c++) first[graph.sender_row[c] + 1]++;
    }
    for (int row = 0; row < n_rows_; row++) first[row + 1] += first[row];
    std::vector<int> next(first.begin(), first.end() - 1);
    std::vector<int> partner(2 * static_cast<size_t>(n)), from(partner.size()), to(partner.size());
    n_atoms_ = n_local_;
    const auto put = [&](int row, int other, int a, int b) {
      const int at = next[row]++;
      partner[at] = other;
      from[at] = a;
      to[at] = b;
    };
    for (int i = 0; i < n_local_; i++)
      for (int c = graph.first[i]; c < graph.first[i + 1]; c++) {
        put(i, graph.sender_row[c], i, graph.sender_atom[c]);
        put(graph.sender_row[c], i, graph.sender_atom[c], i);
        n_atoms_ = std::max<size_t>(n_atoms_, static_cast<size_t>(graph.sender_atom[c]) + 1);
      }
    first_.fill(first);
    partner_.fill(partner);
    from_.fill(from);
    to_.fill(to);
    const size_t room = std::max<size_t>(1, partner.size());
    n_pairs_.need(std::max(1, n_rows_));
    row_.need(room);
    knot_.need(room);
    weights_.need(SPLINES * room);
    weight_slopes_.need(SPLINES * room);
    vector_.need(4 * room);
    positions_.need(3 * std::max<size_t>(1, n_atoms_));
  }

  Pairs<Real> pairs() const
  {
    return {n_local_,      n_rows_,    first_.get(),   partner_.get(),       from_.get(),  to_.get(),
            n_pairs_.get(), row_.get(), knot_.get(),    weights_.get(), weight_slopes_.get(),
            vector_.get()};
  }
  Rows<Real> rows() const
  {
    return {n_local_, n_basis_, n_filters_, width_, stride_, species_.get(), x_.get(),
            gradient_.get()};
  }

  /// All layers, with as many rows in a block as its shared memory holds.
  template <int ROWS> void dense(Exchange *exchange)
  {
    if constexpr (ROWS > 1) {
      if (ROWS > rows_in_block_) {
        dense<ROWS / 2>(exchange);
        return;
      }
    }
    const unsigned grid = blocks(n_local_, ROWS);
    const size_t shared = shared_bytes();
    const int strips = width_ / WARP;
    for (int k = 0; k < n_layers_; k++) {
      const bool last = k == n_layers_ - 1;
      if (n_local_) {
        messages<Real><<<blocks(static_cast<long>(n_local_) * strips, WARPS), THREADS>>>(
            pairs(), tables_[k].get(), y_[k].get(), width_, message_.get());
        update<ROWS, Real><<<grid, THREADS, shared>>>(
            rows(), message_.get(), forwards(f2out0_[k]), forwards(f2out1_[k]), inner_,
            slopes_[k].get(), k == 0 ? embedding_.get() : nullptr,
            last ? Matrix<Real>{} : forwards(in2f_[k + 1]), last ? nullptr : y_[k + 1].get());
      }
      if (!last && exchange) send(y_[k + 1], *exchange);
    }
    const int top = n_layers_ - 1;
    if (n_local_)
      read_out<ROWS, Real><<<grid, THREADS, shared>>>(
          rows(), network_, offsets_.get(), energies_.get(), backwards(f2out1_[top]),
          backwards(f2out0_[top]), slopes_[top].get(), message_gradient_.get());
    for (int k = top; k >= 0; k--) {
      if (n_rows_)
        gather_back<Real><<<blocks(static_cast<long>(n_rows_) * strips, WARPS), THREADS>>>(
            pairs(), tables_[k].get(), y_[k].get(), message_gradient_.get(), width_,
            k > 0 ? y_gradient_.get() : nullptr, strip_sums_.get(), k == top);
      if (k == 0) break;
      const Real *foreign = exchange ? receive_from(*exchange) : nullptr;
      if (n_local_)
        receive<ROWS, Real><<<grid, THREADS, shared>>>(
            rows(), y_gradient_.get(), foreign, backwards(in2f_[k]), backwards(f2out1_[k - 1]),
            backwards(f2out0_[k - 1]), slopes_[k - 1].get(), message_gradient_.get());
    }
  }

  /// Other processes' rows of what a layer sends.
  void send(DeviceBuffer<Real> &y, Exchange &exchange)
  {
    const size_t own = static_cast<size_t>(n_local_) * width_, all = static_cast<size_t>(n_rows_) * width_;
    host_.resize(all);
    y.download(host_.data(), 0, own);
    exchange.forward(host_.data(), width_, is_double);
    y.upload(host_.data() + own, own, all - own);
    check(cudaDeviceSynchronize(), "take other processes' rows");    // host_ is used again
  }

  /// What other processes' energies feel of own rows.
  const Real *receive_from(Exchange &exchange)
  {
    const size_t own = static_cast<size_t>(n_local_) * width_, all = static_cast<size_t>(n_rows_) * width_;
    host_.resize(all);
    std::fill(host_.begin(), host_.begin() + static_cast<long>(own), Real(0));
    y_gradient_.download(host_.data() + own, own, all - own);
    exchange.reverse(host_.data(), width_, is_double);
    foreign_.need(std::max<size_t>(1, own));
    foreign_.upload(host_.data(), 0, own);
    check(cudaDeviceSynchronize(), "take other processes' gradients");
    return foreign_.get();
  }

  void collect(Result &result)
  {
    if (!n_rows_) return;
    fold<<<blocks(static_cast<long>(n_rows_) * SUMS, THREADS), THREADS>>>(
        n_rows_, width_ / WARP, strip_sums_.get(), sums_.get());
    add_virials<<<1, THREADS>>>(n_rows_, sums_.get(), n_pairs_.get(), totals_.get());
    check(cudaGetLastError(), "start its kernels");
    double totals[7];
    int overlap = 0;
    totals_.download(totals, 0, 7);
    overlap_.download(&overlap, 0, 1);
    if (overlap) {
      check(cudaMemset(overlap_.get(), 0, sizeof(int)), "clear memory");
      throw std::runtime_error("two atoms are at the same place");
    }
    std::copy_n(totals, 6, result.virial);
    result.n_pairs = static_cast<long>(totals[6] + 0.5);
    energies_.download(result.energies, 0, n_local_);
    host_sums_.resize(static_cast<size_t>(n_rows_) * SUMS);
    sums_.download(host_sums_.data(), 0, host_sums_.size());
    for (size_t row = 0; row < static_cast<size_t>(n_rows_); row++) {
      const double *sums = &host_sums_[row * SUMS];
      std::copy_n(sums, 3, result.forces + 3 * row);
      if (result.atom_virials) std::copy_n(sums + 3, 6, result.atom_virials + 6 * row);
    }
  }

  int device_;
  std::string name_;
  double cutoff_;
  int n_layers_, n_basis_, n_filters_, width_, n_knots_, stride_ = 0, rows_in_block_ = 8;
  Activation inner_;
  std::vector<Linear<Real>> in2f_, f2out0_, f2out1_, readout_;
  std::vector<DeviceBuffer<Real>> tables_;
  Readout<Real> network_ = {};
  DeviceBuffer<Real> embedding_;
  DeviceBuffer<double> offsets_;
  std::vector<Real> first_y_;    // of each species

  int n_local_ = 0, n_rows_ = 0;
  size_t n_atoms_ = 0;
  DeviceBuffer<int> first_, partner_, from_, to_, species_, n_pairs_, row_, knot_, overlap_;
  DeviceBuffer<Real> weights_, weight_slopes_, vector_;
  DeviceBuffer<Real> x_, gradient_, message_, message_gradient_, y_gradient_, foreign_;
  std::vector<DeviceBuffer<Real>> y_, slopes_;
  DeviceBuffer<double> positions_, energies_, strip_sums_, sums_, totals_;
  std::vector<Real> host_;
  std::vector<double> host_sums_;
};

}    // namespace
}    // namespace mlsel

extern "C" __attribute__((visibility("default"))) mlsel::CompressedModel *
mlsel_cuda(const mlsel::ModelFile &file, int device, int rank_on_node, int *device_used)
{
  int n_devices = 0;
  const cudaError_t code = cudaGetDeviceCount(&n_devices);
  if (code != cudaSuccess || n_devices < 1)
    throw std::runtime_error(std::string("there is no GPU here: ") +
                             (code == cudaSuccess ? "CUDA counts none" : cudaGetErrorString(code)) +
                             "; take device cpu");
  if (device >= n_devices)
    throw std::runtime_error("device is cuda:" + std::to_string(device) + ", but the GPUs here are 0 to " +
                             std::to_string(n_devices - 1));
  *device_used = device >= 0 ? device : rank_on_node % n_devices;
  if (!file.has_compressed)
    throw std::runtime_error("the file has no tables for the compressed mode");
  if (file.dtype == "float32") return new mlsel::CudaModel<float>(file, *device_used);
  return new mlsel::CudaModel<double>(file, *device_used);
}
