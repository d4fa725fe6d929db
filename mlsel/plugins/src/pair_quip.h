// pair_style quip: GAPs by our own evaluator where it covers the file, and all of QUIP's
// potentials through the library in quippy-ase.
#ifndef MLSEL_PAIR_QUIP_H
#define MLSEL_PAIR_QUIP_H

#include "pair.h"

#include <memory>
#include <string>
#include <vector>

#include "gap_soap.h"
#include "quip_bridge.h"
#include "threads.h"

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
  void open_file(const std::string &init);
  void start_threads();

  void compute_gap();
  void evaluate_blocks(int thread);

  void load();
  void gather_neighbours();
  void compute_library();

  bool is_library_wanted = false;
  std::string path, init_string;
  std::vector<int> type_numbers;    // atomic number of each type, 0 for NULL
  double cutoff = 0.0;

  // our own evaluator, if it covers the file
  struct Thread {
    std::unique_ptr<mlsel::GapPotential::Workspace, void (*)(mlsel::GapPotential::Workspace *)> work;
    mlsel::GapEnvironments block;
    mlsel::GapTotals totals;
    std::vector<double> forces, virials;    // of all atoms, ghosts too
    std::string failure;
  };
  std::unique_ptr<mlsel::GapPotential> gap;
  std::unique_ptr<mlsel::Team> team;
  std::vector<Thread> threads;
  mlsel::GapOrder order;

  static PairMlselQuip *owner;    // whose potential QUIP's one saved variable holds

  mlsel_quip_load_function *quip_load = nullptr;
  mlsel_quip_compute_function *quip_compute = nullptr;

  // QUIP gets the atoms of our types alone: in a hybrid there are others
  std::vector<int> atoms;       // QUIP's atom → LAMMPS's
  std::vector<int> index_of;    // and back, −1
  std::vector<int> numbers, tags, ilist, numneigh, neigh;
  std::vector<double> x, forces, local_energies, local_virials;    // both use numbers, energies
  int n_owned = 0;
};

}    // namespace LAMMPS_NS
#endif
