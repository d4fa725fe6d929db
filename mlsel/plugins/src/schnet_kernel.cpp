// The inner loops of SchNet; see vectors.h for how it is compiled.

#include "schnet_kernel.h"

#include "exponential.h"
#include "vectors.h"

namespace mlsel::MLSEL_KERNEL {
namespace {

static_assert(ALIGNMENT == STRIP_BYTES);

/// 120 times the coefficient of t^power in each of the six B-splines of an interval.
constexpr int SPLINE_POWERS[6][SPLINES] = {{1, 26, 66, 26, 1, 0},    {-5, -50, 0, 50, 5, 0},
                                           {10, 20, -60, 20, 10, 0}, {-10, 20, 0, -20, 10, 0},
                                           {5, -20, 30, -20, 5, 0},  {-1, 5, -10, 10, -5, 1}};

/// By Horner's rule, all six at once.
template <typename Real> void splines(int n, const Real *places, Real *weights, Real *slopes)
{
  typedef Real Six __attribute__((vector_size(SPLINES * sizeof(Real)), may_alias));
  Six power[6];
  for (int p = 0; p < 6; p++)
    for (int k = 0; k < SPLINES; k++)
      power[p][k] = static_cast<Real>(SPLINE_POWERS[p][k]) / static_cast<Real>(120);
  for (int pair = 0; pair < n; pair++) {
    const Real t = places[pair];
    Six value = power[5], slope = value;
    for (int p = 4; p > 0; p--) {
      value = value * t + power[p];
      slope = slope * t + value;
    }
    *reinterpret_cast<Six *>(weights + static_cast<long>(pair) * SPLINES) = value * t + power[0];
    *reinterpret_cast<Six *>(slopes + static_cast<long>(pair) * SPLINES) = slope;
  }
}

/// Σ weights[k] row[k], in two chains: one would wait for itself.
template <typename Real>
inline Vector<Real> combine(const Vector<Real> (&weights)[6], const Real *c, int width)
{
  Vector<Real> even = weights[0] * load<Real>(c);
  Vector<Real> odd = weights[1] * load<Real>(c + width);
  even += weights[2] * load<Real>(c + 2 * width);
  odd += weights[3] * load<Real>(c + 3 * width);
  even += weights[4] * load<Real>(c + 4 * width);
  odd += weights[5] * load<Real>(c + 5 * width);
  return even + odd;
}

template <typename Real> inline void spread(const Real *numbers, Vector<Real> (&vectors)[6])
{
  // minus zero costs nothing, plus zero an addition: it turns −0 into 0
  for (int k = 0; k < 6; k++) vectors[k] = numbers[k] - Vector<Real>{};
}

template <typename Real> void forward(const Messages<Real> &m, int begin, int end, Real *out)
{
  constexpr int step = LANES<Real>;
  const int width = m.n_parts * m.part;
  Vector<Real> weights[6];
  for (int i = begin; i < end; i++) {
    const Real *y_i = m.y + static_cast<long>(i) * width;
    Real *out_i = out + static_cast<long>(i) * width;
    for (int p = m.first[i]; p < m.first[i] + m.n_pairs[i]; p++) {
      const int j = m.sender[p];
      const Real *c = m.table + static_cast<long>(m.knot[p]) * width;
      const Real *y_j = m.y + static_cast<long>(j) * width;
      spread<Real>(m.weights + static_cast<long>(p) * SPLINES, weights);
      if (j < m.n_local) {
        Real *out_j = out + static_cast<long>(j) * width;
        for (int k = 0; k < width; k += step) {
          const Vector<Real> w = combine<Real>(weights, c + k, width);
          store<Real>(out_i + k, load<Real>(out_i + k) + w * load<Real>(y_j + k));
          // last: j may be i, an atom and its own image
          store<Real>(out_j + k, load<Real>(out_j + k) + w * load<Real>(y_i + k));
        }
      } else {
        for (int k = 0; k < width; k += step)
          store<Real>(out_i + k,
                      load<Real>(out_i + k) +
                          combine<Real>(weights, c + k, width) * load<Real>(y_j + k));
      }
    }
  }
}

/// A pair's rows of all networks.
template <typename Real> struct Rows {
  const Real *table, *y_i, *y_j, *g_i, *g_j;
  Real *yg_i, *yg_j;
};

template <typename Real, bool MIRRORED, bool Y>
[[gnu::always_inline]] inline Vector<Real>
backward_part(int begin, int end, int width, const Vector<Real> (&weights)[6],
              const Vector<Real> (&slopes)[6], const Rows<Real> &rows)
{
  Vector<Real> total = {};
  for (int k = begin; k < end; k += LANES<Real>) {
    const Real *c = rows.table + k;
    const Vector<Real> gradient_i = load<Real>(rows.g_i + k);
    Vector<Real> by_filter = gradient_i * load<Real>(rows.y_j + k);
    if constexpr (MIRRORED) by_filter += load<Real>(rows.g_j + k) * load<Real>(rows.y_i + k);
    total += combine<Real>(slopes, c, width) * by_filter;
    if constexpr (Y) {
      const Vector<Real> w = combine<Real>(weights, c, width);
      store<Real>(rows.yg_j + k, load<Real>(rows.yg_j + k) + w * gradient_i);
      if constexpr (MIRRORED)
        store<Real>(rows.yg_i + k, load<Real>(rows.yg_i + k) + w * load<Real>(rows.g_j + k));
    }
  }
  return total;
}

template <typename Real, bool MIRRORED, bool Y>
[[gnu::always_inline]] inline void backward_pair(int n_parts, int part, const Real *value,
                                                 const Real *slope, const Rows<Real> &rows,
                                                 Real *pair_gradient)
{
  Vector<Real> weights[6], slopes[6];
  if constexpr (Y) spread<Real>(value, weights);
  spread<Real>(slope, slopes);
  const int width = n_parts * part;
  for (int n = 0; n < n_parts; n++)
    pair_gradient[n] += sum<Real>(backward_part<Real, MIRRORED, Y>(n * part, (n + 1) * part, width,
                                                                   weights, slopes, rows));
}

template <typename Real, bool Y>
void backward_all(const Messages<Real> &m, int begin, int end, const Real *gradient,
                  Real *pair_gradient, Real *y_gradient)
{
  const int n_parts = m.n_parts, part = m.part;
  const long width = static_cast<long>(n_parts) * part;
  for (int i = begin; i < end; i++) {
    Rows<Real> rows;
    rows.y_i = m.y + i * width;
    rows.g_i = gradient + i * width;
    rows.yg_i = Y ? y_gradient + i * width : nullptr;
    for (int p = m.first[i]; p < m.first[i] + m.n_pairs[i]; p++) {
      const long j = m.sender[p];
      rows.table = m.table + m.knot[p] * width;
      rows.y_j = m.y + j * width;
      rows.g_j = gradient + j * width;
      rows.yg_j = Y ? y_gradient + j * width : nullptr;
      const Real *value = m.weights + static_cast<long>(p) * SPLINES;
      const Real *slope = m.slopes + static_cast<long>(p) * SPLINES;
      Real *of_pair = pair_gradient + static_cast<long>(p) * n_parts;
      if (j < m.n_local)
        backward_pair<Real, true, Y>(n_parts, part, value, slope, rows, of_pair);
      else
        backward_pair<Real, false, Y>(n_parts, part, value, slope, rows, of_pair);
    }
  }
}

template <typename Real>
void backward(const Messages<Real> &m, int begin, int end, const Real *gradient,
              Real *pair_gradient, Real *y_gradient)
{
  if (y_gradient)
    backward_all<Real, true>(m, begin, end, gradient, pair_gradient, y_gradient);
  else
    backward_all<Real, false>(m, begin, end, gradient, pair_gradient, y_gradient);
}

/// 1/(2k + 1), as many as the precision asks for.
template <typename Real> struct Logarithm {
  static constexpr int terms = sizeof(Real) == 4 ? 8 : 17;
  Real series[terms + 1] = {};
  constexpr Logarithm()
  {
    for (int k = 0; k <= terms; k++) series[k] = static_cast<Real>(1.0 / (2 * k + 1));
  }
};
template <typename Real> constexpr Logarithm<Real> LOGARITHM = {};

template <typename Real> void activate(Activation kind, int n, Real *values, Real *slopes)
{
  constexpr Real ln2 = static_cast<Real>(0.69314718055994530942);
  const Vector<Real> zero = {}, one = zero + Real(1);
  for (int k = 0; k < n; k += LANES<Real>) {
    const Vector<Real> x = load<Real>(values + k);
    const Vector<Real> size = x < zero ? -x : x;
    Vector<Real> value = x, slope = one;
    if (kind == Activation::tanh) {
      const Vector<Real> e = exp_negative<Real>(Real(-2) * size);
      const Vector<Real> t = (one - e) / (one + e);
      value = x < zero ? -t : t;
      slope = one - t * t;
    } else if (kind == Activation::silu) {
      const Vector<Real> e = exp_negative<Real>(-size);
      slope = (x < zero ? e : one) / (one + e);
      value = x * slope;
      slope += value * (one - slope);
    } else if (kind == Activation::shifted_softplus) {
      const Vector<Real> e = exp_negative<Real>(-size);
      // one division for the slope, 1/(1 + e) or e/(1 + e), and s = e/(2 + e)
      const Vector<Real> inverse = one / ((one + e) * (Real(2) + e));
      slope = (x < zero ? e : one) * (Real(2) + e) * inverse;
      // ln(1 + e) = 2 artanh(s), s ≤ 1/3
      const Vector<Real> s = e * (one + e) * inverse, square = s * s;
      constexpr int last = Logarithm<Real>::terms;
      Vector<Real> series = zero + LOGARITHM<Real>.series[last];
      for (int m = last - 1; m >= 0; m--) series = series * square + LOGARITHM<Real>.series[m];
      value = (x < zero ? zero : x) + Real(2) * s * series - ln2;
    }
    store<Real>(values + k, value);
    store<Real>(slopes + k, slope);
  }
}

template <typename Real> void scale(int n, Real *values, const Real *factors)
{
  for (int k = 0; k < n; k += LANES<Real>)
    store<Real>(values + k, load<Real>(values + k) * load<Real>(factors + k));
}

template <typename Real>
void gather(int n_buffers, Real *const *buffers, long offset, int n, Real *out, bool add)
{
  for (int k = 0; k < n; k += LANES<Real>) {
    Vector<Real> total = add ? load<Real>(out + k) : Vector<Real>{};
    for (int b = 0; b < n_buffers; b++) {
      Real *at = buffers[b] + offset + k;
      total += load<Real>(at);
      store<Real>(at, Vector<Real>{});
    }
    store<Real>(out + k, total);
  }
}

template <typename Real> constexpr Kernel<Real> make()
{
  return {MLSEL_STRING(MLSEL_KERNEL),
          splines<Real>,
          forward<Real>,
          backward<Real>,
          product<Real>,
          activate<Real>,
          scale<Real>,
          gather<Real>};
}

}    // namespace

const Kernel<float> kernel_float = make<float>();
const Kernel<double> kernel_double = make<double>();

}    // namespace mlsel::MLSEL_KERNEL
