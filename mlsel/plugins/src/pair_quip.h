// pair_style quip: GAPs by our own evaluator where it covers the file, and all of QUIP's
// potentials through the library in quippy-ase.
#ifndef MLSEL_PAIR_QUIP_H
#define MLSEL_PAIR_QUIP_H

#include "pair_model.h"

#include <memory>
#include <string>
#include <vector>

#include "gap_potential.h"
#include "quip_bridge.h"
#include "quip_check.h"
#include "threads.h"

namespace LAMMPS_NS {

class PairMlselQuip : public PairModel {
 public:
  explicit PairMlselQuip(class LAMMPS *);
  ~PairMlselQuip() override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double memory_usage() override;

 protected:
  void gather(Change) override;
  void evaluate() override;
  int atomic_number(int type) const override { return kinds[type]; }
  std::string refusal(const std::string &quantity) const override;

 private:
  void read(const std::string &init);

  // our own evaluator, if it covers the file
  void start_threads();
  void gather_gap(Change);
  void evaluate_gap();
  void evaluate_blocks(int thread);

  // QUIP's library
  void load();
  void check_library();
  void gather_library(Change);
  void evaluate_library();

  /// QUIP's virials are 3 × 3 and need not be symmetric term by term.
  static void add_virial(double *sum, const double *v);

  bool is_library_wanted = false;
  std::string init_string;

  struct Thread {
    std::unique_ptr<mlsel::GapPotential::Workspace, void (*)(mlsel::GapPotential::Workspace *)>
        work;
    mlsel::GapEnvironments block;
    mlsel::GapTotals totals;
    std::vector<double> energies, forces, virials;    // of all atoms, ghosts too
    std::string failure;
  };
  std::unique_ptr<mlsel::GapPotential> gap;
  std::unique_ptr<mlsel::GapFile> gap_file;    // until variances are asked for
  std::string gap_terms;
  std::unique_ptr<mlsel::Team> team;
  std::vector<Thread> threads;
  mlsel::GapOrder order;
  std::vector<int> numbers, ilist;

  static PairMlselQuip *owner;    // whose potential QUIP's one saved variable holds

  mlsel_quip_load_function *quip_load = nullptr;
  mlsel_quip_compute_function *quip_compute = nullptr;

  // QUIP gets the atoms of our types alone: in a hybrid there are others
  mlsel::QuipAtoms quip;
  std::vector<int> atoms;       // QUIP's atom → LAMMPS's
  std::vector<int> index_of;    // and back, −1
};

}    // namespace LAMMPS_NS
#endif
