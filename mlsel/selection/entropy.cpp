// Sums of Gaussians as logarithms; mlsel/selection/entropy.py has the same by array operations. With
// -ffast-math the exponentials are those of the C library for vectors; all numbers are finite.

#include <algorithm>
#include <cmath>
#include <cstdint>

extern "C" {

/// out[i] = ln sum_j exp(-|y_i - x_j|^2), for n and m points. product: (n, m) of y_i . x_j, is
/// overwritten; y2, x2: |y_i|^2 and |x_j|^2.
void log_sums(int64_t n, int64_t m, double *product, const double *y2, const double *x2, double *out) {
  constexpr double negligible = -40.0; // 1e4 such terms are below the rounding of the largest
  for (int64_t i = 0; i < n; ++i) {
    double *row = product + i * m;
    double top = -1.7e308;
    for (int64_t j = 0; j < m; ++j) {
      // a distance can't be below 0, its rounding can
      row[j] = std::min(0.0, 2.0 * row[j] - y2[i] - x2[j]);
      top = std::max(top, row[j]);
    }
    int64_t kept = 0;
    for (int64_t j = 0; j < m; ++j) {
      const double exponent = row[j] - top;
      row[kept] = exponent; // kept <= j
      kept += exponent > negligible;
    }
    double sum = 0.0;
    for (int64_t j = 0; j < kept; ++j)
      sum += std::exp(row[j]);
    out[i] = std::log(sum) + top;
  }
}
}
