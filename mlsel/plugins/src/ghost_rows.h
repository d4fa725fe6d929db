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

  /// For a new neighbour list: the sorted owners of the rows that follow the n_local own ones.
  /// Collective.
  void connect(MPI_Comm world, int n_local, const std::vector<Owner> &owners);

  /// Whether this process neither needs nor sends any.
  bool idle() const { return peers_.empty(); }

  void forward(void *rows, int width, bool is_double) override;
  void reverse(void *rows, int width, bool is_double) override;

 private:
  struct Peer {
    int rank;
    int first, n_from;          // its rows here
    std::vector<int> needed;    // our rows there
    std::vector<std::byte> buffer;
  };

  template <typename Real> void send_out(Real *rows, int width);
  template <typename Real> void add_back(Real *rows, int width);
  void wait();

  MPI_Comm world_ = MPI_COMM_NULL;
  std::vector<Peer> peers_;    // by rank
  std::vector<MPI_Request> requests_;
};

}    // namespace mlsel
#endif
