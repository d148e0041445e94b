(** What goes wrong where a hypothesis is dropped: T2 without its residual condition, T6 with Z = 1, T7 where
    abs(lambda) k is below 1 and abs(lambda) k p is not, T8 for a rule of quadrature that uses the point itself. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric BanachSpace LinearMap WeightedSpace RealLine Causal.
Local Open Scope R_scope.
Set Implicit Arguments.

(** T2: a contraction of a ball whose centre moves too far has no equilibrium in it. *)
Theorem ball_without_equilibrium : let G := fun y => y / 2 + 2 in
  lipschitz line (ball line 0 1) (1 / 2) G /\ ~ (exists s, ball line 0 1 s /\ equilibrium line G s).
Proof.
  intros G. unfold G. split.
  - intros y z _ _. simpl. unfold R_dist. replace (y / 2 + 2 - (z / 2 + 2)) with (1 / 2 * (y - z)) by field.
    rewrite Rabs_mult, (Rabs_right (1 / 2)) by lra. lra.
  - intros [s [Bs fixed]]. unfold ball, equilibrium in *. simpl in *. unfold R_dist in Bs.
    pose proof (Rle_abs (s - 0)). lra.
Qed.

(** T6 with Z = 1: for the identity F = 0, every A has Z = 1 and Y = 0, and every point is an equilibrium. *)
Theorem newton_needs_contraction : let G := fun y : R => y in let A := fun v : R => v in
  (forall y z, norm real_line (sub real_line (sub real_line y z) (A (sub real_line (sub real_line y (G y)) (sub real_line z (G z)))))
     <= 1 * norm real_line (sub real_line y z))
  /\ norm real_line (A (sub real_line 0 (G 0))) <= 0 /\ 0 + 1 * 1 <= 1 /\ (forall v, A v = 0 -> v = 0)
  /\ ~ (exists s, Rabs s <= 1 /\ G s = s /\ forall t, Rabs t <= 1 -> G t = t -> t = s).
Proof.
  intros G A. unfold G, A. split; [|split; [|split; [|split]]].
  - intros y z. rewrite !sub_self, sub_zero. lra.
  - rewrite sub_self, norm_zero. lra.
  - lra.
  - auto.
  - intros [s [_ [_ only]]].
    pose proof (only 0 ltac:(rewrite Rabs_R0; lra) eq_refl) as zero.
    pose proof (only 1 ltac:(rewrite Rabs_R1; lra) eq_refl) as one. lra.
Qed.

(** R^2 with the maximum norm. *)
Definition plane : banach := product join_linf real_line real_line.

Definition shear (x : point plane) : point plane := (fst x + snd x, 0).
Definition double_first (x : point plane) : point plane := (fst x, fst x).

Lemma plane_norm (x : point plane) : norm plane x = Rmax (Rabs (fst x)) (Rabs (snd x)).
Proof.
  change (Rmax (norm real_line (fst x)) (norm real_line (snd x)) = Rmax (Rabs (fst x)) (Rabs (snd x))).
  now rewrite !real_norm.
Qed.

(** T7: P of norm 2, T of constant 1, lambda = 1/2: the equation y = f + T(y)/2 is a contraction, and the projected one
    has no solution. *)
Theorem projected_without_solution :
  linear plane plane shear /\ bounded plane plane shear 2 /\ (forall x, shear (shear x) = shear x)
  /\ (forall y z, norm plane (sub plane (double_first y) (double_first z)) <= 1 * norm plane (sub plane y z))
  /\ Rabs (1 / 2) * 1 < 1
  /\ ~ (exists y : point plane, y = add plane (shear (1, 0)) (scale plane (1 / 2) (shear (double_first y)))).
Proof.
  split; [|split; [|split; [|split; [|split]]]].
  - split; intros; unfold shear; simpl; f_equal; ring.
  - intros [u v]. rewrite !plane_norm. revert u v.
    change (forall u v, Rmax (Rabs (u + v)) (Rabs 0) <= 2 * Rmax (Rabs u) (Rabs v)). intros u v. rewrite Rabs_R0.
    pose proof (Rabs_triang u v). pose proof (Rabs_pos u).
    pose proof (Rmax_l (Rabs u) (Rabs v)). pose proof (Rmax_r (Rabs u) (Rabs v)). apply Rmax_lub; lra.
  - intros x. unfold shear. simpl. f_equal. ring.
  - intros y z. rewrite !plane_norm. unfold double_first. simpl. rewrite Rmult_1_l.
    apply Rmax_lub; apply Rmax_l.
  - rewrite Rabs_right; lra.
  - intros [y solves]. pose proof (f_equal fst solves) as first. unfold shear, double_first in first. simpl in first. lra.
Qed.

(** T8: the trapezoidal rule for y(t) = f + lambda times the integral of y uses y(t) itself: whatever the levels, the
    map of its nodes is not causal, and for lambda h = 2 and f = 1 it has no equilibrium at all. *)
Definition trapezoid (lambda_h : R) (f : bool -> R) (y : bool -> R) (i : bool) : R :=
  if i then f true + lambda_h / 2 * (y false + y true) else f false.

Theorem trapezoid_not_causal :
  (forall lambda_h f (level : bool -> nat), lambda_h <> 0 -> ~ causal level (trapezoid lambda_h f))
  /\ ~ (exists y, forall i, trapezoid 2 (fun _ => 1) y i = y i).
Proof.
  split.
  - intros lambda_h f level nonzero structure.
    pose proof (structure (fun _ => 0) (fun j => if j then 1 else 0) true) as same. unfold trapezoid in same.
    assert (f true + lambda_h / 2 * (0 + 0) = f true + lambda_h / 2 * (0 + 1)); [|lra].
    apply same. intros [|]; [lia | reflexivity].
  - intros [y fixed]. pose proof (fixed true) as last. pose proof (fixed false) as first.
    unfold trapezoid in *. lra.
Qed.
