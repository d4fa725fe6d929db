// Our own evaluator of GAPs: energies and forces by the adjoint way, which needs the gradient of
// no descriptor. Knows neither LAMMPS nor Python.
#ifndef MLSEL_GAP_POTENTIAL_H
#define MLSEL_GAP_POTENTIAL_H

#include <array>
#include <memory>
#include <numeric>
#include <vector>

#include "gap_file.h"
#include "gap_kernel.h"

namespace mlsel {

/// Central atoms of one element and their neighbours; those beyond the cutoff may be among them.
struct GapEnvironments {
  int atomic_number = 0;
  std::vector<int> atoms;          // whose energies they are
  std::vector<int> first = {0};    // of neighbours, and behind the last: one more than atoms
  std::vector<int> neighbours;     // atoms on which the forces are
  std::vector<double> vectors;     // from the central atom to its neighbour, Å, 3 a neighbour

  void clear();
  void add_atom(int atom) { atoms.push_back(atom); }
  void add_neighbour(int atom, double x, double y, double z);
  void close_atom() { first.push_back(static_cast<int>(neighbours.size())); }
};

/// Where results are added. Arrays are by atom; those that are null are not wanted.
struct GapTotals {
  double *energies = nullptr;     // eV; a pair's and some triplets' are shared by their atoms
  double *forces = nullptr;       // eV/Å, 3 an atom
  double *virials = nullptr;      // eV, 9 an atom: (r_j − r_i) ⊗ force on j, at j as QUIP has it
  double *variances = nullptr;    // eV², of central atoms; after prepare_variances
  double virial[9] = {};          // their sum
};

/// Central atoms in the order in which they are best evaluated, and where to cut.
struct GapOrder {
  std::vector<int> atoms;
  std::vector<int> starts;    // of blocks of one element, and the end
};

class GapGlue;
class GapPair;
class GapSoap;
class GapTriplet;

class GapPotential {
 public:
  explicit GapPotential(const GapFile &file);
  ~GapPotential();

  /// Make ready for GapTotals::variances, from the file that the potential is of: as much work as
  /// the cube of a term's sparse points. Throws std::runtime_error where there is none.
  void prepare_variances(const GapFile &file);

  double cutoff() const { return cutoff_; }
  bool has_triplets() const;
  const char *instructions() const { return kernel_.name; }

  /// Blocks of atoms of one element; `numbers` by atom.
  static GapOrder order(const std::vector<int> &central_atoms, const int *numbers);

  /// What one thread needs beside the potential.
  class Workspace;
  std::unique_ptr<Workspace, void (*)(Workspace *)> workspace() const;

  /// Add energies and forces of a block of central atoms. `numbers`: atomic numbers by atom, 0 for
  /// those that nobody sees. Throws std::runtime_error where two atoms are at the same place.
  void evaluate(const GapEnvironments &, const int *numbers, Workspace &, GapTotals &) const;

 private:
  const GapKernel &kernel_;
  double cutoff_;
  std::array<double, MAX_ELEMENTS + 1> e0_;
  std::vector<std::unique_ptr<GapSoap>> soaps_;
  std::vector<GapPair> pairs_;
  std::vector<GapTriplet> triplets_;
  std::vector<GapGlue> cores_;
};

/// Call work() for all of n_atoms as central atoms, with a block of one element after the other in
/// `block`. Neighbours of atom i are first[i] … first[i + 1], `vectors` those to them.
template <typename Work>
void each_block(GapEnvironments &block, int n_atoms, const int *numbers, const int *first,
                const int *neighbours, const double *vectors, Work work)
{
  std::vector<int> all(n_atoms);
  std::iota(all.begin(), all.end(), 0);
  const GapOrder order = GapPotential::order(all, numbers);
  for (size_t b = 0; b + 1 < order.starts.size(); b++) {
    block.clear();
    for (int k = order.starts[b]; k < order.starts[b + 1]; k++) {
      const int atom = order.atoms[k];
      block.atomic_number = numbers[atom];
      block.add_atom(atom);
      block.neighbours.insert(block.neighbours.end(), neighbours + first[atom],
                              neighbours + first[atom + 1]);
      block.vectors.insert(block.vectors.end(), vectors + 3L * first[atom],
                           vectors + 3L * first[atom + 1]);
      block.close_atom();
    }
    work();
  }
}

}    // namespace mlsel
#endif
