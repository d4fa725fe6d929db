#include "ghost_rows.h"

#include <algorithm>

namespace mlsel {
namespace {

constexpr int TAG = 1;    // the communicator is ours alone

template <typename Real> MPI_Datatype type_of();
template <> MPI_Datatype type_of<float>() { return MPI_FLOAT; }
template <> MPI_Datatype type_of<double>() { return MPI_DOUBLE; }

}    // namespace

void GhostRows::wait()
{
  MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE);
  requests_.clear();
}

void GhostRows::connect(MPI_Comm world, int n_local, const std::vector<Owner> &owners)
{
  world_ = world;
  int n_ranks = 1;
  MPI_Comm_size(world, &n_ranks);
  std::vector<int> n_from(n_ranks, 0), n_needed(n_ranks, 0), rows(owners.size());
  for (size_t k = 0; k < owners.size(); k++) {
    n_from[owners[k].rank]++;
    rows[k] = owners[k].row;
  }
  MPI_Alltoall(n_from.data(), 1, MPI_INT, n_needed.data(), 1, MPI_INT, world);
  peers_.clear();
  int first = 0;
  for (int rank = 0; rank < n_ranks; rank++) {
    if (n_from[rank] || n_needed[rank])
      peers_.push_back({rank, n_local + first, n_from[rank], std::vector<int>(n_needed[rank]), {}});
    first += n_from[rank];
  }
  for (Peer &peer : peers_) {
    MPI_Irecv(peer.needed.data(), static_cast<int>(peer.needed.size()), MPI_INT, peer.rank, TAG,
              world, &requests_.emplace_back());
    MPI_Isend(rows.data() + (peer.first - n_local), peer.n_from, MPI_INT, peer.rank, TAG, world,
              &requests_.emplace_back());
  }
  wait();
}

template <typename Real> void GhostRows::send_out(Real *rows, int width)
{
  for (Peer &peer : peers_)
    MPI_Irecv(rows + static_cast<size_t>(peer.first) * width, peer.n_from * width, type_of<Real>(),
              peer.rank, TAG, world_, &requests_.emplace_back());
  for (Peer &peer : peers_) {
    const size_t n = peer.needed.size() * width;
    peer.buffer.resize(n * sizeof(Real));
    Real *to = reinterpret_cast<Real *>(peer.buffer.data());
    for (const int row : peer.needed)
      to = std::copy_n(rows + static_cast<size_t>(row) * width, width, to);
    MPI_Isend(peer.buffer.data(), static_cast<int>(n), type_of<Real>(), peer.rank, TAG, world_,
              &requests_.emplace_back());
  }
  wait();
}

template <typename Real> void GhostRows::add_back(Real *rows, int width)
{
  for (Peer &peer : peers_) {
    const size_t n = peer.needed.size() * width;
    peer.buffer.resize(n * sizeof(Real));
    MPI_Irecv(peer.buffer.data(), static_cast<int>(n), type_of<Real>(), peer.rank, TAG, world_,
              &requests_.emplace_back());
  }
  for (Peer &peer : peers_)
    MPI_Isend(rows + static_cast<size_t>(peer.first) * width, peer.n_from * width, type_of<Real>(),
              peer.rank, TAG, world_, &requests_.emplace_back());
  wait();
  // process by process: the sums are the same in every run
  for (const Peer &peer : peers_) {
    const Real *from = reinterpret_cast<const Real *>(peer.buffer.data());
    for (const int row : peer.needed) {
      Real *to = rows + static_cast<size_t>(row) * width;
      for (int k = 0; k < width; k++) to[k] += *from++;
    }
  }
}

void GhostRows::forward(void *rows, int width, bool is_double)
{
  if (is_double)
    send_out(static_cast<double *>(rows), width);
  else
    send_out(static_cast<float *>(rows), width);
}

void GhostRows::reverse(void *rows, int width, bool is_double)
{
  if (is_double)
    add_back(static_cast<double *>(rows), width);
  else
    add_back(static_cast<float *>(rows), width);
}

}    // namespace mlsel
