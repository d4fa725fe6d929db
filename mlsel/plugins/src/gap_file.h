// The GAPs that our own evaluator covers: sums over SOAP descriptors (Bartók, Kondor, Csányi, Phys.
// Rev. B 87, 184115 (2013)) with the polynomial kernel, and over distances of pairs.
#ifndef MLSEL_GAP_FILE_H
#define MLSEL_GAP_FILE_H

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

namespace mlsel {

constexpr int MAX_ELEMENTS = 118;

/// One SOAP descriptor and its sparse points.
struct SoapTerm {
  std::vector<int> centres, species;    // atomic numbers
  int n_max = 0, l_max = 0;
  double cutoff = 0, transition_width = 0.5, atom_sigma = 0;
  double basis_error_exponent = 10, central_weight = 1, covariance_sigma0 = 0;
  bool central_in_all_species = false;    // or in the density of the centre's own element alone
  bool is_normalised = true, has_two_l_plus_one = true;
  double delta = 1, zeta = 1;
  int n_sparse = 0, n_dimensions = 0;
  std::vector<double> alphas;    // with the sparse cutoffs
  std::vector<double> points;    // n_sparse × n_dimensions
};

/// One distance_2b descriptor with the squared exponential, and its sparse points: distances.
struct PairTerm {
  int z1 = 0, z2 = 0;    // 0: any element
  double cutoff = 0, transition_width = 0.5;
  double delta = 1, theta = 1;
  int n_sparse = 0;
  std::vector<double> alphas, points;
};

struct GapFile {
  std::array<double, MAX_ELEMENTS + 1> e0{};    // eV, by atomic number
  std::vector<SoapTerm> soaps;
  std::vector<PairTerm> pairs;
  double cutoff() const;

  /// All of it as numbers, and back: for other processes.
  std::vector<double> numbers() const;
  static GapFile from_numbers(const std::vector<double> &numbers);
};

/// The file may be a potential, but not one that we evaluate ourselves.
class NotCovered : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

}    // namespace mlsel
#endif
