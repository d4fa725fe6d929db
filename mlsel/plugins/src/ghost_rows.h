// Rows of numbers of atoms that other processes own.
#ifndef MLSEL_GHOST_ROWS_H
#define MLSEL_GHOST_ROWS_H

#include <mpi.h>

#include <compare>
#include <cstddef>
#include <vector>

#include "schnet_model.h"

namespace mlsel {

/// Sends rows straight from the process that owns an atom to those that need it, and back. LAMMPS's
/// own exchange goes axis by axis over every ghost: images of own atoms, atoms that no pair needs,
/// and atoms that are only passed on are most of what it carries.
class GhostRows : public Exchange {
 public:
  struct Owner {
    int rank, row;
    auto operator<=>(const Owner &) const = default;
  };

  /// For a new neighbour list: the owners of the rows that follow the n_local own ones, by rank. Of
  /// a process's rows those that are likely to be used come first.
  /// Collective, but messages go to those owners alone, and nothing here grows with the number of
  /// processes.
  void connect(MPI_Comm world, int n_local, const std::vector<Owner> &owners);

  /// Whether this process neither needs nor sends any.
  bool idle() const { return peers_.empty(); }

  void use(const std::vector<char> *is_used) override;
  void start_forward(void *rows, int width, bool is_double) override;
  void start_reverse(void *rows, int width, bool is_double) override;
  void finish() override;

 private:
  struct Peer {
    explicit Peer(int of_rank) : rank(of_rank) {}
    int rank;
    int first = 0, n_from = 0;    // its rows here
    std::vector<int> needed;      // our rows there
    int n_in = 0, n_out = 0;      // how many of both, the first ones, are exchanged
    std::vector<std::byte> buffer;
  };

  Peer &peer(int rank);
  void wait();
  template <typename Real> void send_out(Real *rows, int width);
  template <typename Real> void send_back(Real *rows, int width);
  template <typename Real> void add(Real *rows, int width) const;

  MPI_Comm world_ = MPI_COMM_NULL;
  int n_local_ = 0;
  std::vector<Peer> peers_;    // by rank
  std::vector<MPI_Request> requests_;
  unsigned n_connected_ = 0;

  // what is under way back to its owners, to be added there
  void *adding_ = nullptr;
  int width_ = 0;
  bool is_double_ = false;
};

}    // namespace mlsel
#endif
