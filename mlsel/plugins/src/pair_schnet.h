// pair_style schnet: message-passing potentials from files of mlsel.export_model.
#ifndef MLSEL_PAIR_SCHNET_H
#define MLSEL_PAIR_SCHNET_H

#include "pair.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ghost_rows.h"
#include "schnet_model.h"
#include "torch_backend.h"

namespace LAMMPS_NS {

class PairMlselSchnet : public Pair {
 public:
  explicit PairMlselSchnet(class LAMMPS *);
  ~PairMlselSchnet() override;
  void compute(int, int) override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  double memory_usage() override;
  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;

 private:
  enum class Mode { automatic, compressed, torchscript };

  void allocate();
  void read_model(const std::string &path);
  void open_model();
  void close_model();
  void agree(const std::string &cause);
  void build_graph();
  void compute_compressed();
  void compute_torchscript();
  void gather_pairs();
  void add_results(int eflag);
  void check(const char *cause);

  Mode mode = Mode::automatic;
  int device = -2;       // −2: a GPU if there is one; −1: CPU; else the GPU's number
  int n_threads = 0;     // 0: cores over ranks

  std::string path;
  mlsel::ModelFile file;
  std::vector<int> type_species;    // of each type, the file's species, or −1
  std::unique_ptr<mlsel::CompressedModel> model;
  const mlsel_torch_api *torch = nullptr;
  void *torch_model = nullptr;

  // between two builds of the neighbour list
  std::vector<int> row_of;      // LAMMPS's atom → row
  std::vector<int> atom_of;     // row → LAMMPS's atom
  std::vector<int> species, first, sender_row, sender_atom;
  std::vector<double> owners;    // of each atom: rank, and its number there
  mlsel::Graph graph;
  mlsel::GhostRows ghosts;

  // a step
  std::vector<double> energies, forces, atom_virials;
  mlsel::Result result;
  std::vector<int64_t> numbers, receivers, senders;
  std::vector<double> vectors, gradients;
  std::vector<std::vector<double>> features;    // of the layers, raw memory for either precision
};

}    // namespace LAMMPS_NS
#endif
