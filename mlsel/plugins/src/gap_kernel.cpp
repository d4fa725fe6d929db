// Compiled once for each kind of vector instructions, as namespace MLSEL_KERNEL. Nothing of the
// standard library is used here: an inline function of it, compiled for instructions that a
// machine does not have, could be the one that the linker keeps for everybody.

#include "gap_kernel.h"

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
constexpr int LANES = VECTOR_BYTES / static_cast<int>(sizeof(double));

typedef double Vector __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef double Unaligned __attribute__((vector_size(VECTOR_BYTES), may_alias, aligned(8)));

inline Vector load(const double *at) { return *reinterpret_cast<const Unaligned *>(at); }
inline void store(double *at, Vector value) { *reinterpret_cast<Unaligned *>(at) = value; }
inline double sum(Vector value)
{
  double total = 0;
  for (int lane = 0; lane < LANES; lane++) total += value[lane];
  return total;
}

constexpr int index(int l, int m) { return l * (l + 1) / 2 + m; }

/// The factors Q_lm of the solid harmonics, r^(l − m) times the m-th derivative of Legendre's
/// polynomial P_l at z/r, and (x + iy)^m.
struct Solids {
  Vector q[(GAP_MAX_L + 1) * (GAP_MAX_L + 2) / 2];
  Vector cosine[GAP_MAX_L + 1], sine[GAP_MAX_L + 1];

  Solids(const SoapLayout &layout, Vector x, Vector y, Vector z)
  {
    const Vector one = Vector{} + 1.0, square = x * x + y * y + z * z;
    const int l_max = layout.l_max;
    cosine[0] = one;
    sine[0] = Vector{};
    q[0] = one;
    for (int m = 1; m <= l_max; m++) {
      cosine[m] = x * cosine[m - 1] - y * sine[m - 1];
      sine[m] = x * sine[m - 1] + y * cosine[m - 1];
      q[index(m, m)] = q[index(m - 1, m - 1)] * (2.0 * m - 1.0);
    }
    for (int m = 0; m < l_max; m++) {
      q[index(m + 1, m)] = q[index(m, m)] * z * layout.up[index(m + 1, m)];
      for (int l = m + 2; l <= l_max; l++)
        q[index(l, m)] = q[index(l - 1, m)] * z * layout.up[index(l, m)] -
            q[index(l - 2, m)] * square * layout.down[index(l, m)];
    }
  }
};

/// A neighbour's radial functions: values and slopes of all l and n, from the table.
inline void radial_row(const SoapLayout &layout, const double *table, double place, double cutoff,
                       double cutoff_slope, double *values, double *slopes)
{
  const int n = (layout.l_max + 1) * layout.n_radial;
  const Vector t = Vector{} + place;
  const double scaled = cutoff * layout.inverse_spacing;
  for (int k = 0; k < n; k += LANES) {
    const Vector c5 = load(table + 5 * n + k), c4 = load(table + 4 * n + k);
    Vector value = c5 * t + c4, slope = 5.0 * c5 * t + 4.0 * c4;
    const Vector c3 = load(table + 3 * n + k);
    value = value * t + c3;
    slope = slope * t + 3.0 * c3;
    const Vector c2 = load(table + 2 * n + k);
    value = value * t + c2;
    slope = slope * t + 2.0 * c2;
    const Vector c1 = load(table + n + k);
    value = value * t + c1;
    slope = slope * t + c1;
    value = value * t + load(table + k);
    store(values + k, value * cutoff);
    store(slopes + k, slope * scaled + value * cutoff_slope);
  }
}

void expand(const SoapLayout &layout, const SoapNeighbours &near, const SoapExpansion &out,
            double *coefficients)
{
  constexpr int MAX_ROW = (GAP_MAX_L + 1) * GAP_MAX_N;
  const int l_max = layout.l_max, n_max = layout.n_max, n_radial = layout.n_radial;
  const int stride = layout.stride, n_row = (l_max + 1) * n_radial;
  double values[MAX_ROW], slopes[MAX_ROW];
  for (int block = 0; block < near.n_blocks; block++) {
    const int first = block * LANES;
    const Solids solids(layout, load(near.x + first), load(near.y + first), load(near.z + first));
    double *harmonics = out.harmonics + static_cast<long>(block) * layout.n_lm * LANES;
    for (int l = 0; l <= l_max; l++) {
      double *row = harmonics + l * l * LANES;
      store(row, solids.q[index(l, 0)] * layout.factor[index(l, 0)]);
      for (int m = 1; m <= l; m++) {
        const Vector q = solids.q[index(l, m)] * layout.factor[index(l, m)];
        store(row + (2 * m - 1) * LANES, q * solids.cosine[m]);
        store(row + 2 * m * LANES, q * solids.sine[m]);
      }
    }
    double *radial = out.radial + static_cast<long>(block) * (l_max + 1) * n_max * LANES;
    double *radial_slopes = out.slopes + static_cast<long>(block) * (l_max + 1) * n_max * LANES;
    double *species_row = coefficients + near.species[block] * n_max;
    for (int lane = 0; lane < LANES; lane++) {
      const int k = first + lane;
      radial_row(layout, layout.table + static_cast<long>(near.knot[k]) * 6 * n_row, near.place[k],
                 near.cutoff[k], near.cutoff_slope[k], values, slopes);
      for (int l = 0; l <= l_max; l++)
        for (int n = 0; n < n_max; n++) {
          radial[(l * n_max + n) * LANES + lane] = values[l * n_radial + n];
          radial_slopes[(l * n_max + n) * LANES + lane] = slopes[l * n_radial + n];
        }
      for (int l = 0; l <= l_max; l++)
        for (int v = 0; v < n_radial; v += LANES) {
          const Vector value = load(values + l * n_radial + v);
          for (int lm = l * l; lm < (l + 1) * (l + 1); lm++) {
            double *at = species_row + lm * stride + v;
            store(at, load(at) + value * harmonics[lm * LANES + lane]);
          }
        }
    }
  }
}

double spectrum(const SoapLayout &layout, const double *coefficients, double *power)
{
  constexpr int N = 4;
  const int n = layout.n_channels, stride = layout.stride;
  const int n_triangle = n * (n + 1) / 2;
  double total = 0;
  for (int l = 0; l <= layout.l_max; l++) {
    const double *c = coefficients + l * l * stride;
    double *out = power + static_cast<long>(l) * n_triangle;
    Vector squares = {};
    double diagonal = 0;
    for (int a = 0; a < n; a++) {
      double *row = out + a * (a + 1) / 2;
      for (int b = 0; b <= a; b += N * LANES) {
        Vector sums[N] = {};
        for (int m = 0; m <= 2 * l; m++) {
          const double value = c[m * stride + a];
          for (int v = 0; v < N; v++)
            if (b + v * LANES <= a) sums[v] += value * load(c + m * stride + b + v * LANES);
        }
        for (int v = 0; v < N; v++)
          if (b + v * LANES <= a) store(row + b + v * LANES, sums[v]);
      }
      diagonal += row[a] * row[a];
    }
    int k = 0;
    for (; k + LANES <= n_triangle; k += LANES) squares += load(out + k) * load(out + k);
    double rest = 0;
    for (; k < n_triangle; k++) rest += out[k] * out[k];
    total += layout.weight[l] * (2.0 * (sum(squares) + rest) - diagonal);
  }
  return total;
}

void spectrum_adjoint(const SoapLayout &layout, const double *coefficients, const double *power,
                      const double *slopes, double scale, double pull, double *scratch,
                      double *gradient)
{
  const int n = layout.n_channels, stride = layout.stride;
  for (int l = 0; l <= layout.l_max; l++) {
    const long offset = static_cast<long>(l) * n * (n + 1) / 2;
    const double *p = power + offset, *g = slopes + offset;
    const double back = 2.0 * pull * layout.weight[l];
    for (int a = 0; a < n; a++) {
      for (int b = 0; b < a; b++, p++, g++) {
        const double value = scale * *g - back * *p;
        scratch[a * stride + b] = value;
        scratch[b * stride + a] = value;
      }
      scratch[a * stride + a] = 2.0 * scale * *g++ - back * *p++;
    }
    const double *c = coefficients + l * l * stride;
    double *out = gradient + l * l * stride;
    constexpr int N = 4;
    for (int m = 0; m <= 2 * l; m++)
      for (int a = 0; a < stride; a += N * LANES) {
        Vector sums[N] = {};
        for (int b = 0; b < n; b++) {
          const double value = c[m * stride + b];
          for (int v = 0; v < N; v++)
            if (a + v * LANES < stride) sums[v] += value * load(scratch + b * stride + a + v * LANES);
        }
        for (int v = 0; v < N; v++)
          if (a + v * LANES < stride) store(out + m * stride + a + v * LANES, sums[v]);
      }
  }
}

void gradient(const SoapLayout &layout, const SoapNeighbours &near, const SoapExpansion &from,
              const double *slopes, double *gx, double *gy, double *gz)
{
  const int l_max = layout.l_max, n_max = layout.n_max, stride = layout.stride;
  for (int block = 0; block < near.n_blocks; block++) {
    const int first = block * LANES;
    const Vector x = load(near.x + first), y = load(near.y + first), z = load(near.z + first);
    const Solids solids(layout, x, y, z);
    const double *harmonics = from.harmonics + static_cast<long>(block) * layout.n_lm * LANES;
    const double *radial = from.radial + static_cast<long>(block) * (l_max + 1) * n_max * LANES;
    const double *radial_slopes =
        from.slopes + static_cast<long>(block) * (l_max + 1) * n_max * LANES;
    const double *a = slopes + near.species[block] * n_max;
    Vector fx = {}, fy = {}, fz = {}, inward = {}, along = {};
    for (int l = 0; l <= l_max; l++) {
      const double *r = radial + l * n_max * LANES, *d = radial_slopes + l * n_max * LANES;
      const double *h = harmonics + l * l * LANES;
      {
        const double *a0 = a + l * l * stride;
        Vector w = {}, v = {};
        for (int n = 0; n < n_max; n++) {
          w += a0[n] * load(r + n * LANES);
          v += a0[n] * load(d + n * LANES);
        }
        along += v * load(h);
        if (l > 0) {
          w *= layout.factor[index(l, 0)];
          fz += w * solids.q[index(l - 1, 0)] * static_cast<double>(l);
          if (l > 1) inward += w * solids.q[index(l - 1, 1)];
        }
      }
      for (int m = 1; m <= l; m++) {
        const double *ac = a + (l * l + 2 * m - 1) * stride, *as = ac + stride;
        Vector wc = {}, ws = {}, vc = {}, vs = {};
        for (int n = 0; n < n_max; n++) {
          const Vector value = load(r + n * LANES), slope = load(d + n * LANES);
          wc += ac[n] * value;
          ws += as[n] * value;
          vc += ac[n] * slope;
          vs += as[n] * slope;
        }
        along += vc * load(h + (2 * m - 1) * LANES) + vs * load(h + 2 * m * LANES);
        wc *= layout.factor[index(l, m)];
        ws *= layout.factor[index(l, m)];
        const Vector turn = wc * solids.cosine[m] + ws * solids.sine[m];
        if (m < l) fz += turn * solids.q[index(l - 1, m)] * static_cast<double>(l + m);
        if (m + 1 < l) inward += turn * solids.q[index(l - 1, m + 1)];
        const Vector q = solids.q[index(l, m)] * static_cast<double>(m);
        fx += q * (wc * solids.cosine[m - 1] + ws * solids.sine[m - 1]);
        fy += q * (ws * solids.cosine[m - 1] - wc * solids.sine[m - 1]);
      }
    }
    along *= load(near.inverse_r + first);
    store(gx + first, fx + x * (along - inward));
    store(gy + first, fy + y * (along - inward));
    store(gz + first, fz + z * along);
  }
}

/// A tile of N rows and one strip of columns, held in registers.
template <int N>
inline void tile(int n_in, const double *x, int x_stride, const double *strip, double *out,
                 int out_stride)
{
  constexpr int n_vectors = GAP_STRIP / LANES;
  Vector sums[N][n_vectors] = {};
  for (int k = 0; k < n_in; k++) {
    Vector factors[n_vectors];
    for (int v = 0; v < n_vectors; v++) factors[v] = load(strip + k * GAP_STRIP + v * LANES);
    for (int row = 0; row < N; row++) {
      const double value = x[row * x_stride + k];
      for (int v = 0; v < n_vectors; v++) sums[row][v] += value * factors[v];
    }
  }
  for (int row = 0; row < N; row++)
    for (int v = 0; v < n_vectors; v++) store(out + row * out_stride + v * LANES, sums[row][v]);
}

template <int N>
inline void last_tile(int n_rows, int n_in, const double *x, int x_stride, const double *strip,
                      double *out, int out_stride)
{
  if constexpr (N > 0) {
    if (n_rows == N)
      tile<N>(n_in, x, x_stride, strip, out, out_stride);
    else
      last_tile<N - 1>(n_rows, n_in, x, x_stride, strip, out, out_stride);
  }
}

void product(int n_rows, int n_in, int n_out, const double *x, int x_stride, const double *matrix,
             double *out, int out_stride)
{
  for (int column = 0; column < n_out; column += GAP_STRIP) {
    const double *strip = matrix + static_cast<long>(column) * n_in;
    int row = 0;
    for (; row + ROWS <= n_rows; row += ROWS)
      tile<ROWS>(n_in, x + static_cast<long>(row) * x_stride, x_stride, strip,
                 out + static_cast<long>(row) * out_stride + column, out_stride);
    last_tile<ROWS - 1>(n_rows - row, n_in, x + static_cast<long>(row) * x_stride, x_stride, strip,
                        out + static_cast<long>(row) * out_stride + column, out_stride);
  }
}

}    // namespace

const GapKernel gap_kernel = {MLSEL_STRING(MLSEL_KERNEL), LANES,    expand, spectrum,
                              spectrum_adjoint,           gradient, product};

}    // namespace mlsel::MLSEL_KERNEL
