// The core potential of a GAP, QUIP's IP Glue: E_i = F(Σ_j ρ(r_ij)) + ½ Σ_j V(r_ij), cubic splines.
#ifndef MLSEL_GAP_GLUE_H
#define MLSEL_GAP_GLUE_H

#include <array>
#include <vector>

#include "gap_potential.h"

namespace mlsel {

/// A cubic spline through given points, a straight line outside of them.
class CubicSpline {
 public:
  CubicSpline() = default;
  explicit CubicSpline(const GlueTerm::Spline &points);

  bool is_there() const { return !x_.empty(); }
  double last() const { return x_.empty() ? 0.0 : x_.back(); }
  double value(double x, double &slope) const;

 private:
  std::vector<double> x_, y_, curvatures_;
  double slope_first_ = 0, slope_last_ = 0;
};

class GapGlue {
 public:
  explicit GapGlue(const GlueTerm &term);

  /// See GapPotential::evaluate.
  void evaluate(const GapEnvironments &, const int *numbers, GapTotals &) const;

 private:
  double density(int kind, double r, double &slope) const;

  std::array<int, MAX_ELEMENTS + 1> kind_;    // by atomic number; −1: not of this potential
  std::vector<CubicSpline> densities_, embeddings_, pairs_;
  std::vector<double> factors_;    // of those densities that are no splines; else 0
  std::vector<int> are_splines_;
};

}    // namespace mlsel
#endif
