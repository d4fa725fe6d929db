// pair_style quip: GAP and QUIP's other potentials, through the library in quippy-ase.
#ifndef MLSEL_PAIR_QUIP_H
#define MLSEL_PAIR_QUIP_H

#include "pair.h"

#include <string>
#include <vector>

#include "quip_bridge.h"

namespace LAMMPS_NS {

class PairMlselQuip : public Pair {
 public:
  explicit PairMlselQuip(class LAMMPS *);
  ~PairMlselQuip() override;
  void compute(int, int) override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  double memory_usage() override;

 private:
  void allocate();
  void load();
  void gather_neighbours();

  static PairMlselQuip *owner;    // whose potential QUIP's one saved variable holds

  mlsel_quip_load_function *quip_load = nullptr;
  mlsel_quip_compute_function *quip_compute = nullptr;
  std::string path, init_string;
  std::vector<int> type_numbers;    // atomic number of each type, 0 for NULL
  double cutoff = 0.0;

  // QUIP gets the atoms of our types alone: in a hybrid there are others
  std::vector<int> atoms;       // QUIP's atom → LAMMPS's
  std::vector<int> index_of;    // and back, −1
  std::vector<int> numbers, tags, ilist, numneigh, neigh;
  std::vector<double> x, forces, local_energies, local_virials;
  int n_owned = 0;
};

}    // namespace LAMMPS_NS
#endif
