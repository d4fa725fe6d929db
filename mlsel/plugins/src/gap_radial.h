// SOAP's radial functions as QUIP defines them.
#ifndef MLSEL_GAP_RADIAL_H
#define MLSEL_GAP_RADIAL_H

#include <vector>

#include "gap_file.h"

namespace mlsel {

/// A neighbour's Gaussian is expanded in n_max Gaussians of the same width at equal distances,
/// those made orthonormal.
class RadialBasis {
 public:
  /// Throws std::runtime_error where the Gaussians are not independent.
  explicit RadialBasis(const SoapTerm &term);

  /// The expansion of a Gaussian at the origin.
  const std::vector<double> &centre() const { return centre_; }

  /// R_nl(r)/r^l, first and second derivative: three times (l_max + 1) · n_max numbers.
  void evaluate(double r, double *values, double *slopes, double *curvatures) const;

 private:
  void gaussian(double r, double b, std::vector<double> &h) const;

  int n_max_, l_max_;
  double alpha_;
  std::vector<double> places_, transform_, centre_;
};

}    // namespace mlsel
#endif
