// Vectors of the instructions that a kernel is compiled for, and the matrix product of them.
// A kernel's source includes this once and is compiled as namespace MLSEL_KERNEL, for each kind of
// instructions. Nothing of the standard library is used: an inline function of it, compiled for
// instructions that a machine does not have, could be the one that the linker keeps for everybody.
#ifndef MLSEL_VECTORS_H
#define MLSEL_VECTORS_H

#define MLSEL_STRING_(x) #x
#define MLSEL_STRING(x) MLSEL_STRING_(x)

namespace mlsel::MLSEL_KERNEL {
namespace {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
constexpr int ROWS = 12;    // of a tile: its accumulators fill the registers
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
constexpr int ROWS = 6;
#else
constexpr int VECTOR_BYTES = 16;
constexpr int ROWS = 2;
#endif
constexpr int STRIP_BYTES = 64;    // of a matrix's columns that lie together

template <typename Real> struct VectorOf;
template <> struct VectorOf<float> {
  typedef float type __attribute__((vector_size(VECTOR_BYTES), may_alias));
  typedef float anywhere __attribute__((vector_size(VECTOR_BYTES), may_alias, aligned(4)));
};
template <> struct VectorOf<double> {
  typedef double type __attribute__((vector_size(VECTOR_BYTES), may_alias));
  typedef double anywhere __attribute__((vector_size(VECTOR_BYTES), may_alias, aligned(8)));
};
template <typename Real> using Vector = typename VectorOf<Real>::type;
template <typename Real> constexpr int LANES = VECTOR_BYTES / static_cast<int>(sizeof(Real));

template <typename Real> inline Vector<Real> load(const Real *at)
{
  return *reinterpret_cast<const typename VectorOf<Real>::anywhere *>(at);
}
template <typename Real> inline void store(Real *at, Vector<Real> value)
{
  *reinterpret_cast<typename VectorOf<Real>::anywhere *>(at) = value;
}

/// By 16 bytes at a time: lane after lane each addition would wait for the one before.
template <typename Real> inline Real sum(Vector<Real> value)
{
  constexpr int bytes = 16, lanes = bytes / static_cast<int>(sizeof(Real));
  typedef Real Few __attribute__((vector_size(bytes)));
  Few parts[VECTOR_BYTES / bytes];
  __builtin_memcpy(parts, &value, VECTOR_BYTES);
  for (int n = VECTOR_BYTES / bytes / 2; n > 0; n /= 2)
    for (int k = 0; k < n; k++) parts[k] += parts[k + n];
  Real total = parts[0][0];
  for (int lane = 1; lane < lanes; lane++) total += parts[0][lane];
  return total;
}

/// A tile of N rows and one strip of columns, held in registers.
template <typename Real, int N>
inline void tile(int n_in, const Real *x, int x_stride, const Real *strip, const Real *bias,
                 Real *out, int out_stride, bool add)
{
  constexpr int step = LANES<Real>, n_vectors = STRIP_BYTES / VECTOR_BYTES;
  constexpr int columns = n_vectors * step;
  Vector<Real> sums[N][n_vectors];
  for (int row = 0; row < N; row++)
    for (int v = 0; v < n_vectors; v++)
      sums[row][v] = add ? load<Real>(out + row * out_stride + v * step)
                         : (bias ? load<Real>(bias + v * step) : Vector<Real>{});
  for (int k = 0; k < n_in; k++) {
    Vector<Real> factors[n_vectors];
    for (int v = 0; v < n_vectors; v++) factors[v] = load<Real>(strip + k * columns + v * step);
    for (int row = 0; row < N; row++) {
      const Real value = x[row * x_stride + k];
      for (int v = 0; v < n_vectors; v++) sums[row][v] += value * factors[v];
    }
  }
  for (int row = 0; row < N; row++)
    for (int v = 0; v < n_vectors; v++)
      store<Real>(out + row * out_stride + v * step, sums[row][v]);
}

/// The rows that are left, at most N.
template <typename Real, int N>
inline void last_tile(int n_rows, int n_in, const Real *x, int x_stride, const Real *strip,
                      const Real *bias, Real *out, int out_stride, bool add)
{
  if constexpr (N > 0) {
    if (n_rows == N)
      tile<Real, N>(n_in, x, x_stride, strip, bias, out, out_stride, add);
    else
      last_tile<Real, N - 1>(n_rows, n_in, x, x_stride, strip, bias, out, out_stride, add);
  }
}

/// out = x · matrix + bias, or out += x · matrix: n_rows × n_in and n_in × n_out; the matrix packed
/// in strips of STRIP_BYTES, the rest of the last strip zero, which `out` has room for.
template <typename Real>
void product(int n_rows, int n_in, int n_out, const Real *x, int x_stride, const Real *matrix,
             const Real *bias, Real *out, int out_stride, bool add)
{
  constexpr int columns = STRIP_BYTES / static_cast<int>(sizeof(Real));
  for (int column = 0; column < n_out; column += columns) {
    const Real *strip = matrix + static_cast<long>(column) * n_in;
    const Real *strip_bias = bias ? bias + column : nullptr;
    int row = 0;
    for (; row + ROWS <= n_rows; row += ROWS)
      tile<Real, ROWS>(n_in, x + static_cast<long>(row) * x_stride, x_stride, strip, strip_bias,
                       out + static_cast<long>(row) * out_stride + column, out_stride, add);
    last_tile<Real, ROWS - 1>(n_rows - row, n_in, x + static_cast<long>(row) * x_stride, x_stride,
                              strip, strip_bias, out + static_cast<long>(row) * out_stride + column,
                              out_stride, add);
  }
}

}    // namespace
}    // namespace mlsel::MLSEL_KERNEL

#endif
