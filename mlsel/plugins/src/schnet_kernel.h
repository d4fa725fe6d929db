// The loops that the compressed mode spends its time in. schnet_kernel.cpp is compiled once for
// each kind of vector instructions, and the fittest is chosen when the model is made.
//
// Rows of features are padded with zeros to ALIGNMENT bytes; matrices are packed by pack().
#ifndef MLSEL_SCHNET_KERNEL_H
#define MLSEL_SCHNET_KERNEL_H

namespace mlsel {

constexpr int ALIGNMENT = 64;
constexpr int SPLINES = 8;    // numbers kept for a pair's six B-splines

enum class Activation { identity, shifted_softplus, silu, tanh };

/// Numbers in a padded row of n.
template <typename Real> constexpr int padded(int n)
{
  constexpr int step = ALIGNMENT / static_cast<int>(sizeof(Real));
  return (n + step - 1) / step * step;
}

/// A layer's messages. Pairs of atom i are those from first[i] on, n_pairs[i] of them. A sender
/// below n_local receives the mirrored message, others (ghosts) only send. Rows hold the numbers of
/// n_parts networks side by side.
template <typename Real> struct Messages {
  int n_local, n_parts, part;    // part: padded number of filters of each
  const int *first, *n_pairs, *sender, *knot;
  const Real *weights, *slopes;    // of each pair, from splines()
  const Real *table;    // a row of coefficients of B-splines for each knot, six in an interval
  const Real *y;        // what is sent, a row per atom
};

template <typename Real> struct Kernel {
  const char *name;

  /// The B-splines of n pairs at their places in the interval, 0 … 1, and their slopes there.
  void (*splines)(int n, const Real *places, Real *weights, Real *slopes);

  /// out[i] += Σ_j W(r_ij) y[j], and mirrored, for atoms begin … end − 1.
  void (*forward)(const Messages<Real> &, int begin, int end, Real *out);

  /// From `gradient` (by what forward gave): pair_gradient += derivative by the place in the
  /// interval, n_parts numbers for each pair, and, unless null, y_gradient += derivative by y.
  void (*backward)(const Messages<Real> &, int begin, int end, const Real *gradient,
                   Real *pair_gradient, Real *y_gradient);

  /// out = x · matrix + bias (null: none), or out += x · matrix. x has n_in columns that count.
  void (*product)(int n_rows, int n_in, int n_out, const Real *x, int x_stride, const Real *matrix,
                  const Real *bias, Real *out, int out_stride, bool add);

  /// values = f(values), slopes = f′(values); n is a multiple of the padding.
  void (*activate)(Activation, int n, Real *values, Real *slopes);

  /// values *= factors.
  void (*scale)(int n, Real *values, const Real *factors);

  /// out = Σ buffers[k][offset …], or out += it; the buffers are zero afterwards.
  void (*gather)(int n_buffers, Real *const *buffers, long offset, int n, Real *out, bool add);
};

/// n_in × n_out numbers, row by row, into the order that `product` reads: strips of ALIGNMENT
/// bytes of columns, rows of a strip behind each other. `packed` has n_in × padded(n_out).
template <typename Real> void pack(const Real *matrix, int n_in, int n_out, Real *packed)
{
  constexpr int strip = ALIGNMENT / static_cast<int>(sizeof(Real));
  for (int column = 0; column < padded<Real>(n_out); column++)
    for (int row = 0; row < n_in; row++)
      packed[column / strip * strip * n_in + row * strip + column % strip] =
          column < n_out ? matrix[row * n_out + column] : Real(0);
}

#define MLSEL_DECLARE_KERNEL(NAME)           \
  namespace NAME {                           \
  extern const Kernel<float> kernel_float;   \
  extern const Kernel<double> kernel_double; \
  }
MLSEL_DECLARE_KERNEL(baseline)
MLSEL_DECLARE_KERNEL(avx2)
MLSEL_DECLARE_KERNEL(avx512)

}    // namespace mlsel
#endif
