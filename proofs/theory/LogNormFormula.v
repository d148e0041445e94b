(** The formulas of [LogNorm] are the logarithmic norms: the limits of (|I + h M| - 1)/h for small h > 0. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
From Deqops Require Import Vectors VectorSpace DotProduct LinearAlgebra Jacobians LogNorm.
Local Open Scope R_scope.
Set Implicit Arguments.

(** |I + h M| <= 1 + h (m + eps) for all small h > 0, whatever eps > 0: the logarithmic norm of M is at most m. *)
Definition log_norm_limit (n : nat) (E : vector_norm n) (M : mat n n) (m : R) : Prop :=
  forall eps, 0 < eps -> exists h0, 0 < h0
  /\ forall h v, 0 < h <= h0 -> size E (fun i => v i + h * apply M v i) <= (1 + h * (m + eps)) * size E v.

(** A step that keeps the diagonal of I + h M nonnegative. *)
Lemma diagonal_step n (M : mat n n) : exists h0, 0 < h0 /\ forall h i, 0 < h <= h0 -> h * - M i i <= 1.
Proof.
  set (B := sum (fun i => Rabs (M i i))). assert (B0 : 0 <= B) by (apply sum_nonneg; intros i; apply Rabs_pos).
  exists (/ (B + 1)). split; [apply Rinv_0_lt_compat; lra|]. intros h i [h0 step].
  apply Rmult_le_compat_r with (r := B + 1) in step; [|lra]. rewrite Rinv_l in step by lra.
  pose proof (sum_term (fun i => Rabs (M i i)) (fun i => Rabs_pos (M i i)) i) as term. fold B in term. simpl in term.
  pose proof (Rle_abs (- M i i)) as low. rewrite Rabs_Ropp in low.
  apply Rle_trans with (h * (B + 1)); [|exact step]. apply Rmult_le_compat_l; lra.
Qed.

(** I + h M is the damped slope of I + M. *)
Definition shifted (n : nat) (M : mat n n) : mat n n := fun i j => unit_matrix i j + M i j.

Lemma shifted_step n h (M : mat n n) v : (fun i => v i + h * apply M v i) = apply (damped_slope h (shifted M)) v.
Proof.
  extensionality i. rewrite damped_slope_apply.
  assert (step : apply (shifted M) v i = v i + apply M v i).
  { unfold apply, shifted. rewrite <- (sum_pick i v), <- sum_add. apply sum_ext. intros j. ring. }
  rewrite step. ring.
Qed.

Lemma shifted_off n (M : mat n n) i j : off_diagonal (shifted M) i j = off_diagonal M i j.
Proof.
  unfold off_diagonal, shifted. destruct (Fin.eq_dec i j) as [|apart]; [reflexivity|].
  now rewrite unit_apart, Rplus_0_l.
Qed.

Lemma step_entry n h (M : mat n n) i j : 0 < h -> h * - M i i <= 1 ->
  Rabs (unit_matrix i j + h * M i j) = unit_matrix i j * (1 + h * M i i) + h * off_diagonal M i j.
Proof.
  intros h0 step. unfold off_diagonal. destruct (Fin.eq_dec i j) as [<-|apart].
  - rewrite unit_same, Rabs_right; [ring | lra].
  - rewrite (unit_apart apart), Rplus_0_l, Rabs_mult, Rabs_right by lra. ring.
Qed.

Lemma from_steps n (E : vector_norm n) (M : mat n n) m (value : R) :
  (forall h eps, 0 < h -> 0 < eps -> (forall i, h * - M i i <= 1) ->
     (forall v, size E (fun i => v i + h * apply M v i) <= (1 + h * (m + eps)) * size E v) ->
     1 + h * value <= 1 + h * (m + eps)) ->
  log_norm_limit E M m -> value <= m.
Proof.
  intros each limit. apply le_epsilon. intros eps pos.
  destruct (limit eps pos) as [h1 [h1pos near]]. destruct (diagonal_step M) as [h2 [h2pos low]].
  set (h := Rmin h1 h2). assert (h0 : 0 < h) by (apply Rmin_glb_lt; assumption).
  assert (a : h <= h1) by apply Rmin_l. assert (b : h <= h2) by apply Rmin_r.
  pose proof (each h eps h0 pos (fun i => low h i (conj h0 b)) (fun v => near h v (conj h0 a))) as here.
  apply Rmult_le_reg_l with h; [exact h0 | lra].
Qed.

Theorem log_norm_formula (n : nat) (w : Fin.t n -> posreal) (M : mat n n) (m : R) :
  (log_norm_sup w M m <-> log_norm_limit (sup_norm w) M m)
  /\ (log_norm_sum w M m <-> log_norm_limit (sum_norm w) M m).
Proof.
  assert (forward : forall E : vector_norm n,
            (forall h v, 0 < h -> (forall i, h * - M i i <= 1) ->
               size E (apply (damped_slope h (shifted M)) v) <= (1 + h * m) * size E v) -> log_norm_limit E M m).
  { intros E steps eps pos. destruct (diagonal_step M) as [h0 [h0pos low]]. exists h0. split; [exact h0pos|].
    intros h v [hpos step]. rewrite shifted_step.
    apply Rle_trans with (1 := steps h v hpos (fun i => low h i (conj hpos step))).
    assert (v0 : 0 <= size E v) by exact (BanachSpace.norm_nonneg (vector_space E) v).
    apply Rmult_le_compat_r; [exact v0|]. nra. }
  split; split.
  - intros mu. apply forward. intros h v h0 low. replace (1 + h * m) with (1 - h * (1 - (1 + m))) by ring.
    set (d := 1 - / h). apply (@damped_sup n w h d); [exact h0 | unfold d; right; field; lra | |].
    + intros i. unfold shifted, d. rewrite unit_same. specialize (low i).
      apply Rmult_le_reg_l with (1 := h0). replace (h * (1 - / h)) with (h - 1) by (field; lra). lra.
    + intros i. unfold shifted at 1. rewrite unit_same.
      rewrite (@sum_ext n _ (fun j => off_diagonal M i j * (w i / w j))) by (intros j; now rewrite shifted_off).
      specialize (mu i). lra.
  - intros limit i. revert limit. apply from_steps. intros h eps h0 pos low bound.
    destruct (@finite_choice n R (fun j s => Rabs s = 1 /\ s * (unit_matrix i j + h * M i j) =
      Rabs (unit_matrix i j + h * M i j)))
      as [signs each]; [intros j; apply sign_of|].
    set (v := fun j => signs j * / w j). specialize (bound v).
    assert (one : size (sup_norm w) v <= 1).
    { apply most_lub; [lra|]. intros j. unfold weighed, v. pose proof (cond_pos (w j)).
      rewrite Rabs_mult, (proj1 (each j)), Rabs_right by (apply Rle_ge; left; apply Rinv_0_lt_compat; assumption).
      right. field. lra. }
    assert (row : v i + h * apply M v i = sum (fun j => Rabs (unit_matrix i j + h * M i j) * / w j)).
    { rewrite <- (sum_pick i v) at 1. unfold apply. rewrite <- sum_scale, <- sum_add. apply sum_ext. intros j.
      rewrite <- (proj2 (each j)). unfold v. ring. }
    pose proof (cond_pos (w i)) as wi.
    assert (value : w i * (v i + h * apply M v i) = 1 + h * (M i i + sum (fun j => off_diagonal M i j * (w i / w j)))).
    { rewrite row, <- sum_scale.
      rewrite (@sum_ext n _ (fun j => unit_matrix i j * (1 + h * M i i) + h * (off_diagonal M i j * (w i / w j)))).
      - rewrite sum_with, sum_scale. ring.
      - intros j. rewrite (@step_entry n h M i j h0 (low i)). pose proof (cond_pos (w j)).
        unfold off_diagonal. destruct (Fin.eq_dec i j) as [<-|apart]; [field; lra|]. rewrite (unit_apart apart).
        field. lra. }
    pose proof (most_term (weighed w (fun i => v i + h * apply M v i)) i) as term. unfold weighed at 1 in term.
    simpl in bound. pose proof (Rle_abs (v i + h * apply M v i)) as up.
    assert (modulus : w i * (v i + h * apply M v i) <= w i * Rabs (v i + h * apply M v i)) by
      (apply Rmult_le_compat_l; lra).
    rewrite <- value. apply Rle_trans with (1 := modulus). apply Rle_trans with (1 := term).
    apply Rle_trans with (1 := bound).
    simpl in one. assert (v0 : 0 <= most (weighed w v)) by apply most_nonneg.
    assert (full : 1 <= most (weighed w v)).
    { apply Rle_trans with (2 := most_term (weighed w v) i). unfold weighed, v.
      rewrite Rabs_mult, (proj1 (each i)), Rabs_right by (apply Rle_ge; left; apply Rinv_0_lt_compat; assumption).
      right. field. lra. }
    replace (most (weighed w v)) with 1 by lra. lra.
  - intros mu. apply forward. intros h v h0 low. replace (1 + h * m) with (1 - h * (1 - (1 + m))) by ring.
    set (d := 1 - / h). apply (@damped_sum n w h d); [exact h0 | unfold d; right; field; lra | |].
    + intros i. unfold shifted, d. rewrite unit_same. specialize (low i).
      apply Rmult_le_reg_l with (1 := h0). replace (h * (1 - / h)) with (h - 1) by (field; lra). lra.
    + intros j. unfold shifted at 1. rewrite unit_same.
      rewrite (@sum_ext n _ (fun i => off_diagonal M i j * (w i / w j))) by (intros i; now rewrite shifted_off).
      specialize (mu j). lra.
  - intros limit j. revert limit. apply from_steps. intros h eps h0 pos low bound.
    set (v := fun i => unit_matrix j i * / w j). specialize (bound v). pose proof (cond_pos (w j)) as wj.
    assert (i0 : 0 < / w j) by (apply Rinv_0_lt_compat; exact wj).
    assert (one : size (sum_norm w) v = 1).
    { simpl. rewrite (@sum_ext n _ (fun i => unit_matrix j i * 1)); [apply (sum_pick j (fun _ => 1))|].
      intros i. unfold weighed, v. destruct (Fin.eq_dec j i) as [<-|apart].
      - rewrite unit_same, Rmult_1_l, Rabs_right by lra. field. lra.
      - rewrite (unit_apart apart), !Rmult_0_l, Rabs_R0. ring. }
    rewrite one, Rmult_1_r in bound. apply Rle_trans with (2 := bound). right. simpl.
    assert (column : forall i, v i + h * apply M v i = (unit_matrix i j + h * M i j) * / w j).
    { intros i. unfold v at 1. unfold apply, v.
      rewrite (@sum_ext n _ (fun l => unit_matrix j l * (M i l * / w j))), (sum_pick j (fun l => M i l * / w j))
        by (intros l; ring). rewrite (unit_symmetric j i). ring. }
    rewrite (@sum_ext n (weighed w _) (fun i => unit_matrix j i * (1 + h * M j j) +
      h * (off_diagonal M i j * (w i / w j)))).
    + rewrite sum_with, sum_scale. ring.
    + intros i. unfold weighed. rewrite column, Rabs_mult, (Rabs_right (/ w j)),
        (@step_entry n h M i j h0 (low i)) by lra.
      unfold off_diagonal. destruct (Fin.eq_dec i j) as [<-|apart]; [field; lra|].
      rewrite (unit_symmetric j i), (unit_apart apart). field. lra.
Qed.
