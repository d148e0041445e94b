(** T10 [sensitivity]: how far an equilibrium moves when the input does. States and inputs are points of two metric
    spaces, [G x y] is the map for the input x, S a set of states, D a set of inputs. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric Picard LocalPicard RealLine.
Local Open Scope R_scope.
Set Implicit Arguments.

Section Sensitivity.
Variables M N : Metric_Space.
Variables (S : Base M -> Prop) (D : Base N -> Prop) (G : Base N -> Base M -> Base M) (L : R).
Hypothesis input : forall x x' y, D x -> D x' -> S y -> dist M (G x y) (G x' y) <= L * dist N x x'.

(** With a factor kappa that bounds errors by residuals, whatever theorem gave it. *)
Theorem sensitivity kappa : 0 <= kappa ->
  (forall x y s, D x -> S y -> S s -> equilibrium M (G x) s -> dist M y s <= kappa * dist M (G x y) y) ->
  forall x x' s s', D x -> D x' -> S s -> S s' -> equilibrium M (G x) s -> equilibrium M (G x') s' ->
  dist M s s' <= kappa * L * dist N x x'.
Proof.
  intros kappa0 residual x x' s s' Dx Dx' Ss Ss' fixed fixed'.
  apply Rle_trans with (1 := residual x' s s' Dx' Ss Ss' fixed').
  rewrite Rmult_assoc. apply Rmult_le_compat_l; [exact kappa0|].
  pose proof (input Dx Dx' Ss) as k. rewrite fixed, symmetric in k. exact k.
Qed.

(** For contractions, with one constant q for all inputs of D. *)
Theorem sensitivity_contraction q : 0 <= q < 1 -> (forall x, D x -> lipschitz M S q (G x)) ->
  forall x x' s s', D x -> D x' -> S s -> S s' -> equilibrium M (G x) s -> equilibrium M (G x') s' ->
  dist M s s' <= L / (1 - q) * dist N x x'.
Proof.
  intros range contracts x x' s s' Dx Dx' Ss Ss' fixed fixed'.
  replace (L / (1 - q)) with (/ (1 - q) * L) by (unfold Rdiv; ring).
  apply sensitivity; auto; [left; apply Rinv_0_lt_compat; lra|].
  intros z y t Dz Sy St ft. rewrite Rmult_comm.
  exact (residual_bound range (contracts z Dz) y Sy St ft).
Qed.
End Sensitivity.

(** On a ball that T2 verifies for every input of D: both equilibria exist, and there is one for each input. *)
Theorem sensitivity_local (M N : Metric_Space) (D : Base N -> Prop) (G : Base N -> Base M -> Base M)
  (c : Base M) (r q L : R) : 0 <= r -> 0 <= q < 1 -> complete M (fun _ => True) ->
  (forall x, D x -> lipschitz M (ball M c r) q (G x)) ->
  (forall x, D x -> dist M (G x c) c <= (1 - q) * r) ->
  (forall x x' y, D x -> D x' -> ball M c r y -> dist M (G x y) (G x' y) <= L * dist N x x') ->
  forall x x', D x -> D x' ->
  exists s s', ball M c r s /\ ball M c r s' /\ equilibrium M (G x) s /\ equilibrium M (G x') s'
  /\ (forall t, ball M c r t -> equilibrium M (G x) t -> t = s)
  /\ (forall t, ball M c r t -> equilibrium M (G x') t -> t = s')
  /\ dist M s s' <= L / (1 - q) * dist N x x'.
Proof.
  intros radius range full contracts room input x x' Dx Dx'.
  destruct (local_picard radius range (contracts x Dx) (room x Dx) full) as [s [Bs [fixed [only _]]]].
  destruct (local_picard radius range (contracts x' Dx') (room x' Dx') full) as [s' [Bs' [fixed' [only' _]]]].
  exists s, s'. repeat (split; [assumption|]).
  exact (@sensitivity_contraction M N (ball M c r) D G L input q range contracts x x' s s' Dx Dx' Bs Bs' fixed fixed').
Qed.

(** y/2 + x meets the hypotheses with q = 1/2 and L = 1, and its equilibria 2x attain the bound. *)
Theorem sensitivity_attained : let G := fun x y : R => y / 2 + x in
  (forall x, lipschitz line (fun _ => True) (1 / 2) (G x))
  /\ (forall x x' y, dist line (G x y) (G x' y) <= 1 * dist line x x')
  /\ (forall x s, equilibrium line (G x) s <-> s = 2 * x)
  /\ (forall x x', dist line (2 * x) (2 * x') = 1 / (1 - 1 / 2) * dist line x x').
Proof.
  intros G. unfold G, lipschitz, equilibrium. simpl. unfold R_dist.
  split; [|split; [|split]].
  - intros x y z _ _. replace (y / 2 + x - (z / 2 + x)) with (1 / 2 * (y - z)) by field.
    rewrite Rabs_mult, (Rabs_right (1 / 2)) by lra. lra.
  - intros x x' y. replace (y / 2 + x - (y / 2 + x')) with (x - x') by ring. lra.
  - intros x s. split; intros; lra.
  - intros x x'. replace (2 * x - 2 * x') with (2 * (x - x')) by ring.
    rewrite Rabs_mult, (Rabs_right 2) by lra. field.
Qed.
