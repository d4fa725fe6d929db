// Radial functions of SOAP descriptors as quintic splines, for gap_kernel.h.
#ifndef MLSEL_GAP_RADIAL_TABLE_H
#define MLSEL_GAP_RADIAL_TABLE_H

#include <memory>
#include <vector>

#include "buffer.h"
#include "gap_radial.h"

namespace mlsel {

/// Knots are at equal distances. An interval in which the functions jump is there once for each of
/// their pieces, so that the k-th interval has row k + (jumps before) of a species' rows.
class RadialTable {
 public:
  /// For all of a term's species; n_radial as in SoapLayout. Intervals are halved until values and
  /// slopes are right to TABLE_ACCURACY of the largest. Throws std::runtime_error if they never
  /// are.
  void make(const std::vector<std::unique_ptr<RadialFunctions>> &functions, const SoapTerm &term,
            int n_radial);

  const double *rows() const { return rows_.get(); }
  double inverse_spacing() const { return inverse_spacing_; }

  /// The row for a distance below the cutoff, and where in the interval, 0 … 1.
  int row(int species, double r, double &place) const;

 private:
  int interval(double r) const;
  bool fill(const RadialFunctions &functions, const SoapTerm &term, int n_radial, double *row);

  struct Species {
    int first;    // row
    std::vector<double> jumps;
  };
  std::vector<Species> species_;    // one, if it is for all
  int n_intervals_ = 0;
  double inverse_spacing_ = 0;
  Buffer<double> rows_;    // [row][6 coefficients][l][n_radial]
};

}    // namespace mlsel
#endif
