// A term of a GAP over the distances of pairs, with the squared exponential: distance_2b and
// distance_Nb of order 2.
#ifndef MLSEL_GAP_PAIR_H
#define MLSEL_GAP_PAIR_H

#include <memory>
#include <vector>

#include "gap_potential.h"
#include "gap_variance.h"

namespace mlsel {

/// What the variances of one block of central atoms need.
struct PairWorkspace {
  std::vector<double> covariances, cutoffs, variances;    // of the neighbours in reach
  Buffer<double> root;
};

/// Every neighbour gives the energy Σ_s α_s (δ² exp(−(r − r_s)²/2θ²) + mean²) f(r), half of it to
/// its central atom, half to itself: a function of the distance alone, a table of quintic splines.
class GapPair {
 public:
  explicit GapPair(const PairTerm &term);

  bool is_centre(int number) const { return is(number, z1_) || is(number, z2_); }

  /// See GapPotential::evaluate.
  void evaluate(const GapEnvironments &, const int *numbers, GapTotals &) const;

  /// To the central atoms: f² times the variance of each neighbour's distance, as independent ones.
  void add_variances(const GapKernel &, const GapEnvironments &, const int *numbers,
                     PairWorkspace &, double *variances) const;
  void prepare_variance(const PairTerm &term);

 private:
  static bool is(int number, int wanted) { return wanted == ANY_ELEMENT || number == wanted; }
  bool is_pair(int a, int b) const
  {
    return (is(a, z1_) && is(b, z2_)) || (is(a, z2_) && is(b, z1_));
  }
  void make_table(const PairTerm &term);

  int z1_, z2_;
  double cutoff_, width_, inverse_spacing_ = 0;
  int n_intervals_ = 0;
  std::vector<double> table_;    // without f: six coefficients an interval
  PairTerm term_;                // only where variances are wanted
  std::unique_ptr<GapVariance> variance_;
};

}    // namespace mlsel
#endif
