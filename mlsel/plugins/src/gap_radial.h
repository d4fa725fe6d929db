// Radial functions of SOAP descriptors.
#ifndef MLSEL_GAP_RADIAL_H
#define MLSEL_GAP_RADIAL_H

#include <memory>
#include <vector>

#include "gap_file.h"

namespace mlsel {

/// R_nl(r)/r^l, by which neighbours of one species enter a density's coefficients.
class RadialFunctions {
 public:
  virtual ~RadialFunctions() = default;

  /// Where they jump, in ascending order; between two such places they are smooth.
  virtual std::vector<double> jumps() const { return {}; }

  /// Values, first and second derivatives: three times (l_max + 1) · n_max numbers. `piece`: of how
  /// many jumps they are those behind, continued smoothly where r is elsewhere.
  virtual void evaluate(double r, int piece, double *values, double *slopes,
                        double *curvatures) const = 0;

  /// n_max numbers: the coefficients of l = 0 that the central atom itself gives.
  virtual std::vector<double> centre() const = 0;
};

/// Those of a descriptor: one for each species, or one for all.
std::vector<std::unique_ptr<RadialFunctions>> radial_functions(const SoapTerm &term);

/// e^{−x} i_l(x)/x^l for l = 0 … top, with the modified spherical Bessel functions i_l.
/// Of double and long double.
template <typename Real> std::vector<Real> scaled_bessel(Real x, int top);

/// SOAP's radial functions as QUIP defines them, without the cutoff function: a neighbour's
/// Gaussian is expanded in n_max Gaussians of the same width at equal distances, those made
/// orthonormal.
class RadialBasis : public RadialFunctions {
 public:
  /// Throws std::runtime_error where the Gaussians are not independent.
  explicit RadialBasis(const SoapTerm &term);

  void evaluate(double r, int piece, double *values, double *slopes,
                double *curvatures) const override;
  std::vector<double> centre() const override;

 private:
  void gaussian(double r, double b, std::vector<double> &h) const;

  int n_max_, l_max_;
  double alpha_, central_weight_;
  std::vector<double> places_, transform_, centre_;
};

}    // namespace mlsel
#endif
