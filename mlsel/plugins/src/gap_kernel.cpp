// The inner loops of GAP; see vectors.h for how it is compiled.

#include "gap_kernel.h"

#include "exponential.h"
#include "vectors.h"

namespace mlsel::MLSEL_KERNEL {
namespace {

using Doubles = Vector<double>;
constexpr int WIDTH = LANES<double>;

constexpr int index(int l, int m) { return l * (l + 1) / 2 + m; }

/// The factors Q_lm of the solid harmonics, r^(l − m) times the m-th derivative of Legendre's
/// polynomial P_l at z/r, and (x + iy)^m.
struct Solids {
  Doubles q[(GAP_MAX_L + 1) * (GAP_MAX_L + 2) / 2];
  Doubles cosine[GAP_MAX_L + 1], sine[GAP_MAX_L + 1];

  Solids(const SoapLayout &layout, Doubles x, Doubles y, Doubles z)
  {
    const Doubles one = Doubles{} + 1.0, square = x * x + y * y + z * z;
    const int l_max = layout.l_max;
    cosine[0] = one;
    sine[0] = Doubles{};
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
  const Doubles t = Doubles{} + place;
  const double scaled = cutoff * layout.inverse_spacing;
  for (int k = 0; k < n; k += WIDTH) {
    const Doubles c5 = load(table + 5 * n + k), c4 = load(table + 4 * n + k);
    Doubles value = c5 * t + c4, slope = 5.0 * c5 * t + 4.0 * c4;
    const Doubles c3 = load(table + 3 * n + k);
    value = value * t + c3;
    slope = slope * t + 3.0 * c3;
    const Doubles c2 = load(table + 2 * n + k);
    value = value * t + c2;
    slope = slope * t + 2.0 * c2;
    const Doubles c1 = load(table + n + k);
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
    const int first = block * WIDTH;
    const Solids solids(layout, load(near.x + first), load(near.y + first), load(near.z + first));
    double *harmonics = out.harmonics + static_cast<long>(block) * layout.n_lm * WIDTH;
    for (int l = 0; l <= l_max; l++) {
      double *row = harmonics + l * l * WIDTH;
      store(row, solids.q[index(l, 0)] * layout.factor[index(l, 0)]);
      for (int m = 1; m <= l; m++) {
        const Doubles q = solids.q[index(l, m)] * layout.factor[index(l, m)];
        store(row + (2 * m - 1) * WIDTH, q * solids.cosine[m]);
        store(row + 2 * m * WIDTH, q * solids.sine[m]);
      }
    }
    double *radial = out.radial + static_cast<long>(block) * (l_max + 1) * n_max * WIDTH;
    double *radial_slopes = out.slopes + static_cast<long>(block) * (l_max + 1) * n_max * WIDTH;
    double *species_row = coefficients + near.species[block] * n_max;
    for (int lane = 0; lane < WIDTH; lane++) {
      const int k = first + lane;
      radial_row(layout, layout.table + static_cast<long>(near.knot[k]) * 6 * n_row, near.place[k],
                 near.cutoff[k], near.cutoff_slope[k], values, slopes);
      for (int l = 0; l <= l_max; l++)
        for (int n = 0; n < n_max; n++) {
          radial[(l * n_max + n) * WIDTH + lane] = values[l * n_radial + n];
          radial_slopes[(l * n_max + n) * WIDTH + lane] = slopes[l * n_radial + n];
        }
      for (int l = 0; l <= l_max; l++)
        for (int v = 0; v < n_radial; v += WIDTH) {
          const Doubles value = load(values + l * n_radial + v);
          for (int lm = l * l; lm < (l + 1) * (l + 1); lm++) {
            double *at = species_row + lm * stride + v;
            store(at, load(at) + value * harmonics[lm * WIDTH + lane]);
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
    Doubles squares = {};
    double diagonal = 0;
    for (int a = 0; a < n; a++) {
      double *row = out + a * (a + 1) / 2;
      for (int b = 0; b <= a; b += N * WIDTH) {
        Doubles sums[N] = {};
        for (int m = 0; m <= 2 * l; m++) {
          const double value = c[m * stride + a];
          for (int v = 0; v < N; v++)
            if (b + v * WIDTH <= a) sums[v] += value * load(c + m * stride + b + v * WIDTH);
        }
        for (int v = 0; v < N; v++)
          if (b + v * WIDTH <= a) store(row + b + v * WIDTH, sums[v]);
      }
      diagonal += row[a] * row[a];
    }
    int k = 0;
    for (; k + WIDTH <= n_triangle; k += WIDTH) squares += load(out + k) * load(out + k);
    double rest = 0;
    for (; k < n_triangle; k++) rest += out[k] * out[k];
    total += layout.weight[l] * (2.0 * (sum<double>(squares) + rest) - diagonal);
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
      for (int a = 0; a < stride; a += N * WIDTH) {
        Doubles sums[N] = {};
        for (int b = 0; b < n; b++) {
          const double value = c[m * stride + b];
          for (int v = 0; v < N; v++)
            if (a + v * WIDTH < stride)
              sums[v] += value * load(scratch + b * stride + a + v * WIDTH);
        }
        for (int v = 0; v < N; v++)
          if (a + v * WIDTH < stride) store(out + m * stride + a + v * WIDTH, sums[v]);
      }
  }
}

void gradient(const SoapLayout &layout, const SoapNeighbours &near, const SoapExpansion &from,
              const double *slopes, double *gx, double *gy, double *gz)
{
  const int l_max = layout.l_max, n_max = layout.n_max, stride = layout.stride;
  for (int block = 0; block < near.n_blocks; block++) {
    const int first = block * WIDTH;
    const Doubles x = load(near.x + first), y = load(near.y + first), z = load(near.z + first);
    const Solids solids(layout, x, y, z);
    const double *harmonics = from.harmonics + static_cast<long>(block) * layout.n_lm * WIDTH;
    const double *radial = from.radial + static_cast<long>(block) * (l_max + 1) * n_max * WIDTH;
    const double *radial_slopes =
        from.slopes + static_cast<long>(block) * (l_max + 1) * n_max * WIDTH;
    const double *a = slopes + near.species[block] * n_max;
    Doubles fx = {}, fy = {}, fz = {}, inward = {}, along = {};
    for (int l = 0; l <= l_max; l++) {
      const double *r = radial + l * n_max * WIDTH, *d = radial_slopes + l * n_max * WIDTH;
      const double *h = harmonics + l * l * WIDTH;
      {
        const double *a0 = a + l * l * stride;
        Doubles w = {}, v = {};
        for (int n = 0; n < n_max; n++) {
          w += a0[n] * load(r + n * WIDTH);
          v += a0[n] * load(d + n * WIDTH);
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
        Doubles wc = {}, ws = {}, vc = {}, vs = {};
        for (int n = 0; n < n_max; n++) {
          const Doubles value = load(r + n * WIDTH), slope = load(d + n * WIDTH);
          wc += ac[n] * value;
          ws += as[n] * value;
          vc += ac[n] * slope;
          vs += as[n] * slope;
        }
        along += vc * load(h + (2 * m - 1) * WIDTH) + vs * load(h + 2 * m * WIDTH);
        wc *= layout.factor[index(l, m)];
        ws *= layout.factor[index(l, m)];
        const Doubles turn = wc * solids.cosine[m] + ws * solids.sine[m];
        if (m < l) fz += turn * solids.q[index(l - 1, m)] * static_cast<double>(l + m);
        if (m + 1 < l) inward += turn * solids.q[index(l - 1, m + 1)];
        const Doubles q = solids.q[index(l, m)] * static_cast<double>(m);
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

void plain_product(int n_rows, int n_in, int n_out, const double *x, int x_stride,
                   const double *matrix, double *out, int out_stride)
{
  static_assert(GAP_STRIP * sizeof(double) == STRIP_BYTES);
  product<double>(n_rows, n_in, n_out, x, x_stride, matrix, nullptr, out, out_stride, false);
}

/// N vectors of places at once: exponentials wait long for themselves.
template <bool COMPACT, int N>
inline void covariance_tile(int n_points, const double *points, int n, const double *q, double *out)
{
  Doubles place[N][3], sums[N][4] = {};
  for (int v = 0; v < N; v++)
    for (int d = 0; d < 3; d++) place[v][d] = load(q + static_cast<long>(d) * n + v * WIDTH);
  for (int p = 0; p < n_points; p++, points += 4)
    for (int v = 0; v < N; v++) {
      const Doubles x = points[0] - place[v][0], y = points[1] - place[v][1];
      const Doubles z = points[2] - place[v][2], square = x * x + y * y + z * z;
      Doubles value, slope;    // times (s − q)
      if constexpr (COMPACT) {
        Doubles distance;
        for (int lane = 0; lane < WIDTH; lane++) distance[lane] = __builtin_sqrt(square[lane]);
        const Doubles zero = {}, rest = 1.0 - distance, t = rest > zero ? rest : zero;
        const Doubles cube = points[3] * t * t * t;
        value = cube * t * (4.0 * distance + 1.0);
        slope = 20.0 * cube;
      } else {
        value = points[3] * exp_negative<double>(-0.5 * square);
        slope = value;
      }
      sums[v][0] += value;
      sums[v][1] += slope * x;
      sums[v][2] += slope * y;
      sums[v][3] += slope * z;
    }
  for (int v = 0; v < N; v++)
    for (int k = 0; k < 4; k++) store(out + static_cast<long>(k) * n + v * WIDTH, sums[v][k]);
}

template <bool COMPACT>
void all_covariances(int n_points, const double *points, int n, const double *q, double *out)
{
  constexpr int N = 4;
  int k = 0;
  for (; k + N * WIDTH <= n; k += N * WIDTH)
    covariance_tile<COMPACT, N>(n_points, points, n, q + k, out + k);
  for (; k < n; k += WIDTH) covariance_tile<COMPACT, 1>(n_points, points, n, q + k, out + k);
}

void covariances(int n_points, const double *points, bool is_compact, int n, const double *q,
                 double *out)
{
  if (is_compact)
    all_covariances<true>(n_points, points, n, q, out);
  else
    all_covariances<false>(n_points, points, n, q, out);
}

}    // namespace

const GapKernel gap_kernel = {MLSEL_STRING(MLSEL_KERNEL), WIDTH,    expand,        spectrum,
                              spectrum_adjoint,           gradient, plain_product, covariances};

}    // namespace mlsel::MLSEL_KERNEL
