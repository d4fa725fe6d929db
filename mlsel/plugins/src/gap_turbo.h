// soap_turbo's radial functions.
#ifndef MLSEL_GAP_TURBO_H
#define MLSEL_GAP_TURBO_H

#include <vector>

#include "gap_radial.h"

namespace mlsel {

/// A function of r with its first and second derivative.
struct Jet {
  long double value = 0, slope = 0, curvature = 0;
};

/// Those of one species, as QUIP defines them, but for the amplitude, (1 + 2x³ − 3x²) to the power
/// of amplitude_scaling at x = r/cutoff.
///
/// A neighbour's Gaussian along its direction is expanded in polynomials (1 − x)^{n+2}, and a
/// Gaussian at the centre, made orthonormal by S^{−1/2} of their overlap S; behind the soft cutoff
/// it is damped by half of another Gaussian. QUIP leaves that part out for neighbours that are more
/// than four widths within, and the overlap with the Gaussian at the centre for those farther than
/// four of both widths: there the functions jump. Across it, the Gaussian is expanded in spherical
/// harmonics.
class TurboBasis : public RadialFunctions {
 public:
  TurboBasis(const SoapTerm &term, int species);

  std::vector<double> jumps() const override { return jumps_; }
  void evaluate(double r, int piece, double *values, double *slopes,
                double *curvatures) const override;
  std::vector<double> centre() const override { return centre_; }

 private:
  struct Node {
    long double x, weight;
    bool is_behind;    // the soft cutoff
  };
  struct Piece {
    bool has_filter, has_gaussian;
  };
  void make_overlap();
  void make_nodes();
  void make_jumps();
  void make_centre();

  void evaluate(double r, const Piece &piece, double *values, double *slopes,
                double *curvatures) const;
  Jet at(double r) const;
  Jet width(const Jet &x) const;
  void add_polynomials(const Jet &x, bool is_filtered, std::vector<Jet> &sums) const;
  void add_gaussian(const Jet &x, std::vector<Jet> &sums) const;
  Jet scale(const Jet &x) const;
  void angular(double r, std::vector<Jet> &out) const;

  int n_, n_polynomials_, n_row_, l_max_, radial_enhancement_;
  // Å: the cutoff, and widths across; those along and the soft cutoff in units of the cutoff
  long double cutoff_, soft_, sharpness_;
  long double along_, along_scaling_, across_, across_scaling_, central_weight_;
  std::vector<double> jumps_, centre_;
  std::vector<Piece> pieces_;
  std::vector<long double> overlap_, transform_;    // n × n
  std::vector<Node> nodes_;
  std::vector<long double> functions_;    // times weights, by node and n
};

}    // namespace mlsel
#endif
