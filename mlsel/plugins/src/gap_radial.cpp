#include "gap_radial.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

#include "gap_turbo.h"

namespace mlsel {
namespace {

/// The lower triangle L of a symmetric positive matrix, L Lᵀ.
void factorise(std::vector<long double> &a, int n)
{
  for (int i = 0; i < n; i++)
    for (int j = 0; j <= i; j++) {
      long double sum = a[i * n + j];
      for (int k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
      if (i == j && !(sum > 0))
        throw std::runtime_error("has a descriptor whose radial functions are not independent: "
                                 "n_max is too large for its cutoff and atom_sigma");
      a[i * n + j] = i == j ? std::sqrt(sum) : sum / a[j * n + j];
    }
  for (int i = 0; i < n; i++)
    for (int j = i + 1; j < n; j++) a[i * n + j] = 0;
}

/// x with L Lᵀ x = b, in place.
void solve(const std::vector<long double> &l, int n, long double *b)
{
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < i; k++) b[i] -= l[i * n + k] * b[k];
    b[i] /= l[i * n + i];
  }
  for (int i = n - 1; i >= 0; i--) {
    for (int k = i + 1; k < n; k++) b[i] -= l[k * n + i] * b[k];
    b[i] /= l[i * n + i];
  }
}

}    // namespace

RadialBasis::RadialBasis(const SoapTerm &term)
    : n_max_(term.n_max), l_max_(term.l_max), alpha_(0.5 / (term.atom_sigma * term.atom_sigma)),
      central_weight_(term.central_weight), transform_(static_cast<size_t>(n_max_) * n_max_),
      centre_(n_max_)
{
  const int n = n_max_;
  const double reach = term.cutoff +
      term.atom_sigma * std::sqrt(2.0 * term.basis_error_exponent * std::numbers::ln10);
  for (int k = 0; k < n; k++) places_.push_back(k * (reach / n));
  std::vector<long double> covariance(n * n), overlap(n * n);
  const long double a = alpha_, pi = std::numbers::pi_v<long double>;
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) {
      const long double p = places_[i], q = places_[j], s = p + q, d = p - q;
      covariance[i * n + j] = std::exp(-a * d * d);
      // ∫ r² of the product of two of the Gaussians, 0 … ∞
      overlap[i * n + j] =
          (std::exp(-a * (p * p + q * q)) * std::sqrt(2.0L) * std::pow(a, 1.5L) * s +
           a * std::exp(-0.5L * a * d * d) * std::sqrt(pi) * (1 + a * s * s) *
               (1 + std::erf(std::sqrt(a / 2) * s))) /
          std::sqrt(128 * std::pow(a, 5.0L));
    }
  factorise(overlap, n);
  factorise(covariance, n);
  std::vector<long double> column(n);
  for (int k = 0; k < n; k++) {
    for (int i = 0; i < n; i++) column[i] = overlap[i * n + k];
    solve(covariance, n, column.data());
    for (int i = 0; i < n; i++) transform_[i * n + k] = static_cast<double>(column[i]);
    centre_[k] = static_cast<double>(overlap[k]);
  }
}

void RadialBasis::evaluate(double r, int, double *values, double *slopes, double *curvatures) const
{
  const int n_numbers = (l_max_ + 1) * n_max_;
  for (double *out : {values, slopes, curvatures}) std::fill_n(out, n_numbers, 0.0);
  std::vector<double> h, dh(l_max_ + 2);
  for (int k = 0; k < n_max_; k++) {
    const double b = places_[k];
    gaussian(r, b, h);
    // h_l' = 2α r (b h_{l+1} − h_l)
    for (int l = 0; l <= l_max_ + 1; l++) dh[l] = 2 * alpha_ * r * (b * h[l + 1] - h[l]);
    for (int l = 0; l <= l_max_; l++) {
      const double ddh =
          2 * alpha_ * (b * h[l + 1] - h[l]) + 2 * alpha_ * r * (b * dh[l + 1] - dh[l]);
      for (int n = 0; n < n_max_; n++) {
        const double t = transform_[k * n_max_ + n];
        values[l * n_max_ + n] += t * h[l];
        slopes[l * n_max_ + n] += t * dh[l];
        curvatures[l * n_max_ + n] += t * ddh;
      }
    }
  }
}

/// e^{−α(r² + b²)} i_l(2α r b)/r^l for l up to l_max + 2.
void RadialBasis::gaussian(double r, double b, std::vector<double> &h) const
{
  h = scaled_bessel(2 * alpha_ * r * b, l_max_ + 2);
  double factor = std::exp(-alpha_ * (r - b) * (r - b));
  for (double &one : h) {
    one *= factor;
    factor *= 2 * alpha_ * b;
  }
}

std::vector<double> RadialBasis::centre() const
{
  std::vector<double> weighted = centre_;
  for (double &one : weighted) one *= central_weight_;
  return weighted;
}

/// The ratios κ_l = i_{l+1}/(x i_l) obey κ_{l−1} = 1/(2l + 1 + x² κ_l), sums of positive numbers
/// from above.
template <typename Real> std::vector<Real> scaled_bessel(Real x, int top)
{
  std::vector<Real> h(top + 1);
  Real kappa = 0;
  for (int l = top + 12 + static_cast<int>(7 * std::sqrt(x)); l > 0; l--) {
    kappa = 1 / (2 * l + 1 + x * x * kappa);
    if (l <= top) h[l] = kappa;    // i_l/(x i_{l−1})
  }
  h[0] = x > 0 ? -std::expm1(-2 * x) / (2 * x) : Real(1);
  for (int l = 1; l <= top; l++) h[l] *= h[l - 1];
  return h;
}
template std::vector<double> scaled_bessel(double, int);
template std::vector<long double> scaled_bessel(long double, int);

std::vector<std::unique_ptr<RadialFunctions>> radial_functions(const SoapTerm &term)
{
  std::vector<std::unique_ptr<RadialFunctions>> functions;
  if (!term.turbo.is_used()) functions.push_back(std::make_unique<RadialBasis>(term));
  for (int s = 0; s < static_cast<int>(term.turbo.n_max.size()); s++)
    functions.push_back(std::make_unique<TurboBasis>(term, s));
  return functions;
}

}    // namespace mlsel
