// Whether QUIP's interface for LAMMPS gives what it must: sums over atoms of what each has with its
// neighbours, wherever the atoms are shared out. Knows QUIP's interface alone.
#ifndef MLSEL_QUIP_CHECK_H
#define MLSEL_QUIP_CHECK_H

#include <string>
#include <vector>

#include "quip_bridge.h"

namespace mlsel {

/// A call of QUIP and the memory for it. `energy` and the arrays of results are filled by `run`.
struct QuipAtoms {
  std::vector<int> numbers, tags, ilist, numneigh, neigh;
  std::vector<double> x, forces, local_energies, local_virials;
  double lattice[9] = {};
  double energy = 0.0, virial[9] = {};
  int n_owned = 0;

  void clear();
  size_t size() const { return numbers.size(); }

  /// Null, or QUIP's message, or that the sum of local energies is not the energy.
  const char *run(mlsel_quip_compute_function *compute);
};

/// Evaluate a small cluster of these elements as a whole, with neighbours beyond the cutoff in the
/// lists, and as two processes would. Empty if all agree, else what is wrong.
std::string check_quip(mlsel_quip_compute_function *compute, double cutoff,
                       const std::vector<int> &elements);

}    // namespace mlsel
#endif
