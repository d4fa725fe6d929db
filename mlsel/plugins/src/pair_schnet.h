// pair_style schnet: message-passing potentials from files of mlsel.export_model.
#ifndef MLSEL_PAIR_SCHNET_H
#define MLSEL_PAIR_SCHNET_H

#include "pair_model.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ghost_rows.h"
#include "schnet_model.h"
#include "torch_backend.h"

namespace LAMMPS_NS {

class PairMlselSchnet : public PairModel {
 public:
  explicit PairMlselSchnet(class LAMMPS *);
  ~PairMlselSchnet() override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  double memory_usage() override;
  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;

 protected:
  void gather(Change) override;
  void evaluate() override;
  int atomic_number(int type) const override {
    return members.front().file.numbers[kinds[type]];
  }
  std::string refusal(const std::string &quantity) const override;

 private:
  enum class Mode { automatic, compressed, torchscript };

  /// One of the models; the first drives, or their mean.
  struct Member {
    std::string path;
    mlsel::ModelFile file;
    std::unique_ptr<mlsel::CompressedModel> model;
    std::vector<int> number_here;    // of the first one's species, in this one's file
    std::vector<int> species;        // of the rows
    std::vector<double> energies, forces, atom_virials;
  };

  void read_model(Member &member);
  void order_species(Member &member);
  void open_models();
  void open_model(Member &member, int threads, int rank_on_node, int &device_used);
  bool fit_together() const;
  const mlsel::CompressedModel *evaluator() const;
  void close_models();
  void build_graph();
  void find_owners();
  void add_foreign_rows();
  void set_species();
  template <typename Body> void for_pairs(int atom, const Body &body) const;
  void prepare(size_t m);
  void compute_compressed(mlsel::CompressedModel &model, std::span<mlsel::Result> into);
  void compute_torchscript();
  void gather_pairs();
  void find_below(double *below) const;
  void find_deviation(double *deviation);
  void take_mean();
  void add_results();
  void check(const char *cause);

  Mode mode = Mode::automatic;
  int device = -2;         // −2: a GPU if there is one; −1: CPU; else the GPU's number
  bool on_gpu = false;     // asked for by name
  int n_threads = 0;       // 0: cores over ranks
  bool is_mean = false;    // of a committee, or the first of it

  std::vector<Member> members;    // `kinds` are the numbers of the first one's species
  std::vector<mlsel::Result> results;    // of each member
  std::unique_ptr<mlsel::CompressedModel> together;    // all of them at once, or none
  const mlsel_torch_api *torch = nullptr;
  void *torch_model = nullptr;

  // between two builds of the neighbour list
  std::vector<int> in_list;    // own atom → its place in the list, or −1
  std::vector<int> row_of;     // LAMMPS's atom → row
  std::vector<int> atom_of;    // row → LAMMPS's atom
  std::vector<int> first, first_foreign, sender_row, sender_atom;
  std::vector<double> owners;    // of each atom: rank, and its number there
  mlsel::Graph graph;
  mlsel::GhostRows ghosts;

  // a step
  std::vector<int64_t> numbers, receivers, senders;
  std::vector<double> vectors, gradients;
  std::vector<std::vector<double>> features;    // of the layers, raw memory for either precision
};

}    // namespace LAMMPS_NS
#endif
