#include "gap_turbo.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>
#include <utility>

namespace mlsel {
namespace {

using Real = long double;
constexpr Real PI = std::numbers::pi_v<Real>;
constexpr int ORDER = 12;              // of the quadrature in a panel: right to 1e-17
constexpr Real PANEL = 2.2;            // and its length, in widths of the narrowest Gaussian
constexpr Real FAR = 9;                // widths: 3e-18
constexpr Real LEFT_OUT_BEYOND = 4;    // QUIP's, widths

Jet operator+(const Jet &a, const Jet &b)
{
  return {a.value + b.value, a.slope + b.slope, a.curvature + b.curvature};
}
Jet operator*(Real a, const Jet &b) { return {a * b.value, a * b.slope, a * b.curvature}; }
Jet operator+(Real a, const Jet &b) { return {a + b.value, b.slope, b.curvature}; }
Jet operator*(const Jet &a, const Jet &b)
{
  return {a.value * b.value, a.slope * b.value + a.value * b.slope,
          a.curvature * b.value + 2 * a.slope * b.slope + a.value * b.curvature};
}

/// f(a), from f and its two derivatives there.
Jet chain(const Jet &a, Real f, Real slope, Real curvature)
{
  return {f, slope * a.slope, curvature * a.slope * a.slope + slope * a.curvature};
}
Jet inverse(const Jet &a)
{
  const Real f = 1 / a.value;
  return chain(a, f, -f * f, 2 * f * f * f);
}
Jet root(const Jet &a)
{
  const Real f = std::sqrt(a.value);
  return chain(a, f, 0.5L / f, -0.25L / (f * a.value));
}
Jet exponential(const Jet &a)
{
  const Real f = std::exp(a.value);
  return chain(a, f, f, f);
}
Jet error_function(const Jet &a)
{
  const Real slope = 2 / std::sqrt(PI) * std::exp(-a.value * a.value);
  return chain(a, std::erf(a.value), slope, -2 * a.value * slope);
}

/// Nodes of Gauss and Legendre in −1 … 1, and their weights.
std::vector<std::pair<Real, Real>> quadrature()
{
  std::vector<std::pair<Real, Real>> found;
  for (int k = 0; k < ORDER; k++) {
    Real x = std::cos(PI * (k + 0.75L) / (ORDER + 0.5L)), slope = 0;
    for (int turn = 0; turn < 20; turn++) {
      Real p = 1, before = 0;
      for (int n = 1; n <= ORDER; n++)
        before = std::exchange(p, ((2 * n - 1) * x * p - (n - 1) * before) / n);
      slope = ORDER * (x * p - before) / (x * x - 1);
      x -= p / slope;
    }
    found.emplace_back(x, 2 / ((1 - x * x) * slope * slope));
  }
  return found;
}

/// S^{−1/2} of a symmetric positive matrix by Jacobi's rotations.
std::vector<Real> inverse_root(std::vector<Real> s, int n)
{
  std::vector<Real> axes(n * n);
  for (int i = 0; i < n; i++) axes[i * n + i] = 1;
  for (int sweep = 0; sweep < 30; sweep++)
    for (int i = 0; i < n; i++)
      for (int j = i + 1; j < n; j++) {
        if (s[i * n + j] == 0) continue;
        const Real ratio = (s[j * n + j] - s[i * n + i]) / (2 * s[i * n + j]);
        const Real t = std::copysign(1 / (std::abs(ratio) + std::hypot(ratio, Real(1))), ratio);
        const Real c = 1 / std::hypot(t, Real(1)), sine = t * c;
        const auto rotate = [&](Real &a, Real &b) {
          const Real old = a;
          a = c * old - sine * b;
          b = sine * old + c * b;
        };
        for (int k = 0; k < n; k++) rotate(s[k * n + i], s[k * n + j]);
        for (int k = 0; k < n; k++) rotate(s[i * n + k], s[j * n + k]);
        for (int k = 0; k < n; k++) rotate(axes[k * n + i], axes[k * n + j]);
      }
  std::vector<Real> result(n * n);
  for (int k = 0; k < n; k++) {
    if (!(s[k * n + k] > 0))
      throw std::runtime_error("has a soap_turbo descriptor whose radial functions are not "
                               "independent: its alpha_max is too large");
    for (int i = 0; i < n; i++)
      for (int j = 0; j < n; j++)
        result[i * n + j] += axes[i * n + k] * axes[j * n + k] / std::sqrt(s[k * n + k]);
  }
  return result;
}

/// √(2n + 5), by which (1 − x)^{n+2} has the norm 1; n from 1.
Real norm(int n) { return std::sqrt(Real(2 * n + 5)); }

}    // namespace

TurboBasis::TurboBasis(const SoapTerm &term, int species)
    : n_(term.turbo.n_max[species]),
      n_polynomials_(n_ - (term.turbo.basis == TurboDensity::with_gaussian)), n_row_(term.n_max),
      l_max_(term.l_max), radial_enhancement_(term.turbo.radial_enhancement), cutoff_(term.cutoff),
      soft_((term.cutoff - term.transition_width) / term.cutoff),
      sharpness_(term.turbo.filter_sharpness), along_(term.turbo.along[species] / term.cutoff),
      along_scaling_(term.turbo.along_scaling[species]), across_(term.turbo.across[species]),
      across_scaling_(term.turbo.across_scaling[species]),
      central_weight_(term.turbo.central_weight[species])
{
  make_overlap();
  transform_ = inverse_root(overlap_, n_);
  make_nodes();
  make_jumps();
  make_centre();
}

/// In double as QUIP has it: the last digits of S are those of S^{−1/2} that count. The overlap
/// with the Gaussian, ∫ (1 − x)^m e^{−x²/2σ²}, 0 … 1, is by a recurrence without its term at x = 1.
void TurboBasis::make_overlap()
{
  overlap_.assign(n_ * n_, 1);
  for (int i = 1; i <= n_polynomials_; i++)
    for (int j = 1; j <= n_polynomials_; j++)
      if (i != j)
        overlap_[(i - 1) * n_ + j - 1] = std::sqrt((5.0 + 2 * i) * (5.0 + 2 * j)) / (5.0 + i + j);
  if (n_ == n_polynomials_) return;
  const Real square = along_ * along_;
  Real before = 0, now = std::sqrt(PI / 2) * along_ * std::erf(1 / (std::sqrt(Real(2)) * along_));
  for (int m = 0; m < n_polynomials_ + 2; m++) {
    before = std::exchange(now, now + square * m * before - square);
    if (const int k = m - 1; k >= 1)
      overlap_[(n_ - 1) * n_ + k - 1] = overlap_[(k - 1) * n_ + n_ - 1] =
          static_cast<double>(now * norm(k) * std::sqrt(2 / along_) / std::sqrt(std::sqrt(PI)));
  }
}

void TurboBasis::make_nodes()
{
  const Real filter = (1 - soft_) / sharpness_;
  const auto rule = quadrature();
  for (const bool is_behind : {false, true}) {
    const Real begin = is_behind ? soft_ : 0, end = is_behind ? 1 : soft_;
    const Real narrowest = is_behind ? std::min(along_, filter) : along_;
    const int n_panels = static_cast<int>(std::ceil((end - begin) / (PANEL * narrowest)));
    const Real half = (end - begin) / n_panels / 2;
    for (int panel = 0; panel < n_panels; panel++)
      for (const auto &[place, weight] : rule) {
        const Real x = begin + (2 * panel + 1 + place) * half, d = (x - soft_) / filter;
        nodes_.push_back({x, half * weight * (is_behind ? std::exp(-0.5L * d * d) : 1), is_behind});
      }
  }
  for (const Node &node : nodes_)
    for (int n = 0; n < n_; n++) {
      Real sum = 0, power = (1 - node.x) * (1 - node.x);
      for (int k = 1; k <= n_polynomials_; k++) {
        power *= 1 - node.x;
        sum += transform_[n * n_ + k - 1] * norm(k) * power;
      }
      functions_.push_back(node.weight * sum);
    }
}

void TurboBasis::make_jumps()
{
  std::vector<Real> places = {(soft_ - LEFT_OUT_BEYOND * along_) /
                              (1 + LEFT_OUT_BEYOND * along_scaling_)};
  if (n_ > n_polynomials_ && LEFT_OUT_BEYOND * along_scaling_ < 1)
    places.push_back(2 * LEFT_OUT_BEYOND * along_ / (1 - LEFT_OUT_BEYOND * along_scaling_));
  for (const Real place : places)
    if (place > 0 && place < 1) jumps_.push_back(static_cast<double>(place * cutoff_));
  std::sort(jumps_.begin(), jumps_.end());
  for (size_t k = 0; k <= jumps_.size(); k++) {
    const Real begin = k ? jumps_[k - 1] : 0, end = k < jumps_.size() ? jumps_[k] : cutoff_;
    const Jet x = at(static_cast<double>((begin + end) / 2)), sigma = width(x);
    pieces_.push_back({soft_ - x.value<LEFT_OUT_BEYOND * sigma.value, n_> n_polynomials_ &&
                       x.value < LEFT_OUT_BEYOND * (along_ + sigma.value)});
  }
}

/// A neighbour at the same place with all its derivatives by direction left out; with a Gaussian at
/// the centre, that Gaussian's own expansion.
void TurboBasis::make_centre()
{
  const size_t n_numbers = static_cast<size_t>(l_max_ + 1) * n_row_;
  std::vector<double> values(n_numbers), slopes(n_numbers), curvatures(n_numbers);
  // in double as QUIP decides: soft cutoffs of just four widths are not rare
  const bool has_filter = static_cast<double>(soft_) < 4 * static_cast<double>(along_);
  evaluate(0, {has_filter, false}, values.data(), slopes.data(), curvatures.data());
  centre_.assign(n_row_, 0.0);
  const Real enhancement = radial_enhancement_ == 0 ? 1
      : radial_enhancement_ == 1                    ? std::sqrt(2 / PI) * along_
                                                    : along_ * along_;
  const Real amplitude = enhancement * 4 * PI * std::sqrt(std::sqrt(PI)) *
      std::sqrt(cutoff_ / (2 * along_)) * cutoff_ * cutoff_ / (across_ * across_);
  for (int n = 0; n < n_; n++) {
    Real own = values[n];
    if (n_ > n_polynomials_) {
      own = 0;
      for (int k = 0; k < n_; k++)
        own += amplitude * transform_[n * n_ + k] * overlap_[k * n_ + n_ - 1];
    }
    centre_[n] = static_cast<double>(central_weight_ * own);
  }
}

Jet TurboBasis::at(double r) const { return {r / cutoff_, 1 / cutoff_, 0}; }

Jet TurboBasis::width(const Jet &x) const { return along_ + along_scaling_ * x; }

void TurboBasis::evaluate(double r, int piece, double *values, double *slopes,
                          double *curvatures) const
{
  evaluate(r, pieces_[piece], values, slopes, curvatures);
}

void TurboBasis::evaluate(double r, const Piece &piece, double *values, double *slopes,
                          double *curvatures) const
{
  for (double *out : {values, slopes, curvatures}) std::fill_n(out, (l_max_ + 1) * n_row_, 0.0);
  const Jet x = at(r), factor = scale(x);
  std::vector<Jet> sums(n_), by_l;
  add_polynomials(x, piece.has_filter, sums);
  if (piece.has_gaussian) add_gaussian(x, sums);
  angular(r, by_l);
  for (int l = 0; l <= l_max_; l++)
    for (int n = 0; n < n_; n++) {
      const Jet all = factor * by_l[l] * sums[n];
      values[l * n_row_ + n] = static_cast<double>(all.value);
      slopes[l * n_row_ + n] = static_cast<double>(all.slope);
      curvatures[l * n_row_ + n] = static_cast<double>(all.curvature);
    }
}

/// ∫ of the functions made of polynomials times the neighbour's Gaussian. QUIP's recurrence behind
/// the soft cutoff, I_{m+1} = (1 − x') I_m + m σ'² I_{m−1} − …, starts without the term at the hard
/// cutoff, so that what that gives is missing.
void TurboBasis::add_polynomials(const Jet &x, bool is_filtered, std::vector<Jet> &sums) const
{
  const Jet sigma = width(x), inverse_sigma = inverse(sigma);
  for (size_t k = 0; k < nodes_.size(); k++) {
    if ((nodes_[k].is_behind && !is_filtered) ||
        std::abs(nodes_[k].x - x.value) > FAR * sigma.value)
      continue;
    const Jet u = (nodes_[k].x + Real(-1) * x) * inverse_sigma, g = exponential(-0.5L * (u * u));
    for (int n = 0; n < n_; n++) sums[n] = sums[n] + functions_[k * n_ + n] * g;
  }
  if (!is_filtered) return;
  const Real filter = (1 - soft_) / sharpness_, square = filter * filter;
  const Jet both = inverse(square + sigma * sigma);
  const Jet merged = square * (sigma * sigma * both);
  const Jet rest = 1 + Real(-1) * ((soft_ * (sigma * sigma) + square * x) * both);
  const Jet u = (1 + Real(-1) * x) * inverse_sigma;
  const Jet edge = exponential(-0.5L * sharpness_ * sharpness_ + -0.5L * (u * u));
  Jet before, now = Real(-1) * (merged * edge);
  for (int m = 1; m < n_polynomials_ + 2; m++) {
    const Jet next = rest * now + Real(m) * (merged * before);
    before = now;
    now = next;
    if (const int k = m - 1; k >= 1)
      for (int n = 0; n < n_; n++) sums[n] = sums[n] + transform_[n * n_ + k - 1] * norm(k) * now;
  }
}

/// The overlap with the Gaussian at the centre, from 0 to where it ends.
void TurboBasis::add_gaussian(const Jet &x, std::vector<Jet> &sums) const
{
  const Jet sigma = width(x), inverse_sigma = inverse(sigma);
  const Jet inverse_both = inverse(root(along_ * along_ + sigma * sigma));
  const Jet u = x * inverse_both;
  const Jet side = (along_ / std::sqrt(Real(2))) * (u * inverse_sigma);
  const Real factor = std::sqrt(PI / 2) * along_ * std::sqrt(2 / along_) / std::sqrt(std::sqrt(PI));
  const Jet overlap =
      factor * (exponential(-0.5L * (u * u)) * sigma * inverse_both * (1 + error_function(side)));
  for (int n = 0; n < n_; n++) sums[n] = sums[n] + transform_[n * n_ + n_ - 1] * overlap;
}

/// What all radial functions have in common: radial_enhancement gives far neighbours more weight.
Jet TurboBasis::scale(const Jet &x) const
{
  const Jet sigma = width(x);
  const Jet factor = 4 * PI * std::sqrt(cutoff_) * inverse(sigma);
  if (radial_enhancement_ == 1) return factor * (x + std::sqrt(2 / PI) * sigma);
  if (radial_enhancement_ == 2)
    return factor * (x * x + sigma * sigma + std::sqrt(8 / PI) * (sigma * x));
  return factor;
}

/// cutoff²/σ² e^{−z} i_l(z)/r^l, z = r²/σ², with the width σ across.
void TurboBasis::angular(double r, std::vector<Jet> &out) const
{
  const Jet distance = {r, 1, 0};
  const Jet inverse_square = inverse(across_ + across_scaling_ * distance);
  const Jet square = inverse_square * inverse_square, z = distance * distance * square;
  const Real value = z.value;
  const std::vector<Real> h = scaled_bessel(value, l_max_ + 2);
  Jet power = cutoff_ * cutoff_ * square;
  const Jet step = distance * square;
  for (int l = 0; l <= l_max_; l++) {
    // h_l' = z h_{l+1} − h_l
    const Real slope = value * h[l + 1] - h[l], next = value * h[l + 2] - h[l + 1];
    out.push_back(power * chain(z, h[l], slope, h[l + 1] + value * next - slope));
    power = power * step;
  }
}

}    // namespace mlsel
