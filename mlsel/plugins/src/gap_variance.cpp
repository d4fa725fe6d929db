#include "gap_variance.h"

#include <cmath>
#include <stdexcept>

namespace mlsel {
namespace {

double dot(const double *a, const double *b, size_t n)
{
  double even = 0, odd = 0;
  size_t k = 0;
  for (; k + 1 < n; k += 2) {
    even += a[k] * b[k];
    odd += a[k + 1] * b[k + 1];
  }
  return even + odd + (k < n ? a[k] * b[k] : 0.0);
}

/// Cholesky's factor L of a symmetric matrix, in its place.
void factorise(std::vector<double> &matrix, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    double *row = &matrix[i * n];
    for (size_t j = 0; j < i; j++)
      row[j] = (row[j] - dot(row, &matrix[j * n], j)) / matrix[j * n + j];
    const double left = row[i] - dot(row, row, i);
    if (!(left > 0.0))
      throw std::runtime_error("has sparse points whose covariances are none: no variance follows");
    row[i] = std::sqrt(left);
  }
}

/// L⁻¹ of a lower triangle, by rows of its transpose: out[j][i] for i ≥ j.
std::vector<double> inverted(const std::vector<double> &lower, size_t n)
{
  std::vector<double> out(n * n);
  for (size_t j = 0; j < n; j++) {
    double *column = &out[j * n];
    column[j] = 1.0 / lower[j * n + j];
    for (size_t i = j + 1; i < n; i++)
      column[i] = -dot(&lower[i * n + j], column + j, i - j) / lower[i * n + i];
  }
  return out;
}

}    // namespace

GapVariance::GapVariance(const GapTerm &term, std::vector<double> covariances,
                         const std::vector<double> &factors)
    : n_(term.n_sparse), own_(term.delta * term.delta + term.mean * term.mean +
                              VARIANCE_REGULARISATION * VARIANCE_REGULARISATION)
{
  const auto n = static_cast<size_t>(n_);
  for (size_t k = 0; k < n; k++)
    covariances[k * n + k] += VARIANCE_REGULARISATION * VARIANCE_REGULARISATION;
  factorise(covariances, n);
  const std::vector<double> root = inverted(covariances, n);
  const size_t n_strips = (n + GAP_STRIP - 1) / GAP_STRIP;
  double *packed = root_.need(n_strips * GAP_STRIP * n);
  for (size_t column = 0; column < n_strips * GAP_STRIP; column++)
    for (size_t row = 0; row < n; row++)
      packed[column / GAP_STRIP * GAP_STRIP * n + row * GAP_STRIP + column % GAP_STRIP] =
          column < n ? root[row * n + column] * (factors.empty() ? 1.0 : factors[row]) : 0.0;
}

void GapVariance::find(const GapKernel &kernel, int n_rows, const double *k, int k_stride,
                       Buffer<double> &work, double *variances) const
{
  const int stride = (n_ + GAP_STRIP - 1) / GAP_STRIP * GAP_STRIP;
  double *out = work.need(static_cast<size_t>(n_rows) * stride);
  kernel.product(n_rows, n_, n_, k, k_stride, root_.get(), out, stride);
  for (int row = 0; row < n_rows; row++) {
    const double *one = out + static_cast<size_t>(row) * stride;
    variances[row] = own_ - dot(one, one, n_);
  }
}

std::vector<double> pair_covariances(const PairTerm &term)
{
  const auto n = static_cast<size_t>(term.n_sparse);
  std::vector<double> all(n * n);
  for (size_t i = 0; i < n; i++) {
    pair_covariances(term, term.points[i], &all[i * n]);
    // k has the cutoff of its sparse point alone
    for (size_t j = 0; j < n; j++)
      all[i * n + j] =
          (all[i * n + j] - term.mean * term.mean * term.cutoffs[j]) * term.cutoffs[i] +
          term.mean * term.mean;
  }
  return all;
}

void pair_covariances(const PairTerm &term, double r, double *k)
{
  for (int s = 0; s < term.n_sparse; s++) {
    const double d = (r - term.points[s]) / term.theta;
    k[s] = (term.delta * term.delta * std::exp(-0.5 * d * d) + term.mean * term.mean) *
        term.cutoffs[s];
  }
}

std::vector<double> soap_covariances(const SoapTerm &term)
{
  const auto n = static_cast<size_t>(term.n_sparse), d = static_cast<size_t>(term.n_dimensions);
  std::vector<double> all(n * n);
  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; j <= i; j++) {
      const double cosine = dot(&term.points[i * d], &term.points[j * d], d);
      all[i * n + j] = all[j * n + i] =
          term.delta * term.delta * std::pow(cosine, term.zeta) + term.mean * term.mean;
    }
  return all;
}

}    // namespace mlsel
