// The loops that our GAP evaluator spends its time in. gap_kernel.cpp is compiled once for each
// kind of vector instructions, and the fittest is chosen when the potential is made.
#ifndef MLSEL_GAP_KERNEL_H
#define MLSEL_GAP_KERNEL_H

namespace mlsel {

constexpr int GAP_MAX_L = 20, GAP_MAX_N = 32;    // what a kernel has room for

/// Sizes and tables of one SOAP descriptor. Channels are the pairs (species, n), in this order;
/// (l, m) are ordered l² + {0 for m = 0, 2m − 1 for cos mφ, 2m for sin mφ}.
struct SoapLayout {
  int n_max, l_max, n_species, n_channels;
  int n_radial;    // numbers of a row of the table for one l: n_max, padded to lanes
  int stride;      // of a row of channels, padded so that a write of n_radial stays inside
  int n_lm, n_power;
  const double *table;    // [knot][6 coefficients][l][n_radial]: R_nl/r^l without the cutoff
  double inverse_spacing;
  const double *factor, *up, *down;    // of the solid harmonics, by l(l + 1)/2 + m
  const double *weight;                // by l: 1/(2l + 1), or 1
};

/// An atom's neighbours, sorted by species and cut into blocks of as many as a vector has lanes.
/// Lanes that stand for nobody have cutoff = cutoff_slope = 0 and a vector that is not zero.
struct SoapNeighbours {
  int n_blocks;
  const int *species;                     // of a block
  const double *x, *y, *z, *inverse_r;    // by block and lane
  const double *cutoff, *cutoff_slope;    // f(r), f′(r)
  const int *knot;
  const double *place;    // in the interval after the knot, 0 … 1
};

/// What is kept of an atom's neighbours from expand to gradient, by block and lane.
struct SoapExpansion {
  double *harmonics;    // [block][n_lm]: solid harmonics r^l Y_lm
  double *radial;       // [block][l][n_max]: f R_nl/r^l
  double *slopes;       // its derivatives by r
};

struct GapKernel {
  const char *name;
  int lanes;    // doubles in a vector

  /// coefficients[lm][stride] += Σ_neighbours
  void (*expand)(const SoapLayout &, const SoapNeighbours &, const SoapExpansion &,
                 double *coefficients);

  /// power[l][a ≥ b] = Σ_m c_a c_b, as rows of a triangle; up to 16 numbers behind the last are
  /// overwritten. Returns Σ weight[l] p², every a ≠ b counted twice.
  double (*spectrum)(const SoapLayout &, const double *coefficients, double *power);

  /// From ∂E/∂power to ∂E/∂coefficients; `scratch` holds stride² numbers.
  /// ∂E/∂power[l][a, b] is scale · slopes − pull · 2 weight[l] power (1 weight for a = b).
  void (*spectrum_adjoint)(const SoapLayout &, const double *coefficients, const double *power,
                           const double *slopes, double scale, double pull, double *scratch,
                           double *gradient);

  /// From ∂E/∂coefficients to ∂E/∂(x, y, z) of every lane.
  void (*gradient)(const SoapLayout &, const SoapNeighbours &, const SoapExpansion &,
                   const double *slopes, double *gx, double *gy, double *gz);

  /// out = x · matrix, n_rows × n_in and n_in × n_out; the matrix packed in strips of 8 columns,
  /// the rest of the last strip zero, which `out` has room for.
  void (*product)(int n_rows, int n_in, int n_out, const double *x, int x_stride,
                  const double *matrix, double *out, int out_stride);

  /// The covariances of n places q with n_points sparse points s, all of three numbers in units of
  /// the kernel's widths: out = Σ_s w_s K(|q − s|), and its three derivatives by q behind it.
  /// K(d) is exp(−d²/2), or (1 − d)⁴ (4d + 1) up to d = 1 if it is compact. q[3][n], out[4][n], n a
  /// multiple of lanes; points[n_points][4], weights last.
  void (*covariances)(int n_points, const double *points, bool is_compact, int n, const double *q,
                      double *out);
};

constexpr int GAP_STRIP = 8;

#define MLSEL_DECLARE_GAP_KERNEL(NAME) \
  namespace NAME {                     \
  extern const GapKernel gap_kernel;   \
  }
MLSEL_DECLARE_GAP_KERNEL(baseline)
MLSEL_DECLARE_GAP_KERNEL(avx2)
MLSEL_DECLARE_GAP_KERNEL(avx512)
MLSEL_DECLARE_GAP_KERNEL(native)

}    // namespace mlsel
#endif
