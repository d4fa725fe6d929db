// A term of a GAP over triplets of atoms: angle_3b and distance_Nb of order 3.
#ifndef MLSEL_GAP_TRIPLET_H
#define MLSEL_GAP_TRIPLET_H

#include <vector>

#include "buffer.h"
#include "gap_potential.h"

namespace mlsel {

/// The triplets of some central atoms: descriptors, their cutoff functions, and what takes
/// derivatives by them to the atoms. `q` is not divided by the kernel's widths.
struct Triplets {
  struct Side {
    int pair;    // of the block, from the centre to a neighbour
    double r, direction[3];
    double cutoff, cutoff_slope;
  };
  struct Triplet {
    int centre;           // in the block
    int side[2];          // in `sides`
    int slot[3];          // distances: where r_ij, r_ik, r_jk stand in the descriptor
    double q[3];          // the descriptor
    double between[3];    // the direction from k to j
    double value;         // of the cutoff function
    double slopes[3];     // its derivatives by r_ij, r_ik, r_jk
  };
  std::vector<Side> sides;
  std::vector<Triplet> triplets;
};

struct TripletWorkspace {
  Triplets list;
  std::vector<int> near;    // sides of the atom at hand: the first and behind the last
  Buffer<double> q, sums;
};

class GapTriplet {
 public:
  GapTriplet(const TripletTerm &term, const GapKernel &kernel);

  bool is_centre(int number) const;

  /// All triplets of a block's central atoms, each of them once.
  void gather(const GapEnvironments &, const int *numbers, Triplets &) const;

  /// From derivatives by the descriptor and by the cutoff function to those by r_ij, r_ik, r_jk.
  void chain(const Triplets &, const Triplets::Triplet &, const double *by_q, double by_cutoff,
             double *by_distances) const;

  /// See GapPotential::evaluate.
  void evaluate(const GapEnvironments &, const int *numbers, TripletWorkspace &, GapTotals &) const;

 private:
  bool belongs(int centre, int j, int k) const;
  void describe(int centre, int j, int k, double r_jk, const Triplets &, Triplets::Triplet &) const;
  double own_covariance(const double *q, double *gradient) const;
  void pack_points(const TripletTerm &term);

  const GapKernel &kernel_;
  TripletTerm::Kind kind_;
  std::vector<int> elements_, permutations_;
  double cutoff_, width_, inverse_theta_[3], constant_ = 0;
  bool is_compact_kernel_, accepts_all_;
  std::vector<double> points_;    // in units of θ, permuted, with their weights: 4 each
};

}    // namespace mlsel
#endif
