// The filters' table as a spline: one row of coefficients for each knot, six rows in each interval.
#ifndef MLSEL_SPLINE_H
#define MLSEL_SPLINE_H

#include <vector>

namespace mlsel {

/// The quintic spline through functions at equidistant knots, as coefficients of B-splines.
///
/// knots: n_knots × 3 × n_functions, value, slope and curvature; of slopes and curvatures only
/// those at the two ends are used, which a quintic spline needs. Returns (n_knots + 4) ×
/// n_functions coefficients: rows k … k + 5 belong to the interval after knot k.
std::vector<double> spline_coefficients(const std::vector<double> &knots, int n_knots,
                                        int n_functions, double spacing);

}    // namespace mlsel
#endif
