(** Hypotheses that cannot be dropped: each theorem here shows a statement to be false without one of them. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
From Deqops Require Import Metric BanachSpace Damped HilbertSpace WeightedSpace Activations.
From Deqops Require Import Vectors LocalLyapunov RealLine RefutePoints.
Local Open Scope R_scope.

(** T1, T12: a weight matrix that contracts in the norm of some P proves nothing behind relu unless P is diagonal. *)
Theorem trap_full_norm : let P := square 3 (-3) (-3) 4 in let W := square (3/2) (-2) 1 (-6/5) in
  let G := fun (y : vec 2) i => relu (apply W y i + pair (-1/2) (-1) i) in
  positive_definite P
  /\ (forall v, form P (apply W v) <= 24/25 * (24/25) * form P v)
  /\ G (pair 0 0) = pair 0 0 /\ G (pair 1 0) = pair 1 0 /\ pair 0 0 <> pair 1 0.
Proof.
  intros P W G.
  assert (value : forall v : vec 2, form P v = 3 * (v Fin.F1 * v Fin.F1) - 6 * (v Fin.F1 * v (Fin.FS Fin.F1))
                    + 4 * (v (Fin.FS Fin.F1) * v (Fin.FS Fin.F1))).
  { intros v. unfold form, P. rewrite sum_pair, apply_square. simpl. ring. }
  split; [split|split; [|split; [|split]]].
  - intros i j. revert i. apply by_pair; revert j; apply by_pair; reflexivity.
  - intros v [i some]. rewrite value. set (a := v Fin.F1) in *. set (b := v (Fin.FS Fin.F1)) in *.
    replace (3 * (a * a) - 6 * (a * b) + 4 * (b * b)) with (3 * Rsqr (a - b) + Rsqr b) by (unfold Rsqr; ring).
    pose proof (Rle_0_sqr (a - b)). pose proof (Rle_0_sqr b).
    destruct (Req_dec b 0) as [none|apart].
    + rewrite none, Rminus_0_r in *. assert (a <> 0).
      { revert i some. apply (by_pair (fun i => v i <> 0 -> a <> 0)); intros some; [exact some|].
        exfalso. exact (some none). }
      pose proof (Rsqr_pos_lt a ltac:(assumption)). lra.
    + pose proof (Rsqr_pos_lt b apart). lra.
  - intros v. rewrite !value. unfold W. rewrite apply_square. simpl.
    set (a := v Fin.F1). set (b := v (Fin.FS Fin.F1)).
    pose proof (Rle_0_sqr (a - 36 / 100 * b)). pose proof (Rle_0_sqr a). pose proof (Rle_0_sqr b). unfold Rsqr in *.
    nra.
  - extensionality i. unfold G, W. rewrite apply_square. revert i.
    apply by_pair; unfold relu; simpl; rewrite Rmax_left; lra.
  - extensionality i. unfold G, W. rewrite apply_square. revert i.
    apply by_pair; unfold relu; simpl; [rewrite Rmax_right; lra | rewrite Rmax_left; lra].
  - intros same. apply (f_equal (fun v : vec 2 => v Fin.F1)) in same. simpl in same. lra.
Qed.

Lemma beyond x : exists n, x < INR n.
Proof.
  destruct (archimed (Rabs x)) as [above _]. exists (Z.to_nat (up (Rabs x))).
  pose proof (Rle_abs x). pose proof (Rabs_pos x).
  rewrite INR_IZR_INZ, Z2Nat.id; [lra|]. apply le_IZR. lra.
Qed.

(** T4: a translation is nonexpansive and its residual never shrinks, whatever the constant in the bound. *)
Theorem trap_translation (b C y0 : R) : 0 < b < 1 -> let G := fun y : point real_line => y + 1 in
  lipschitz (metric real_line) (fun _ => True) 1 G /\ (forall y, G y <> y)
  /\ exists n, let y := iterate (metric real_line) (damped_map real_line b G) y0 in
       C / (b * (1 - b) * INR (n + 1)) < norm real_line (sub real_line (G (y n)) (y n)) ^ 2.
Proof.
  intros damping G. split; [|split].
  - intros y z _ _. simpl. unfold sub; simpl. unfold G. rewrite !Rmult_1_l. right. f_equal. ring.
  - intros y. unfold G. lra.
  - assert (positive : 0 < b * (1 - b)) by nra.
    destruct (beyond (Rabs C / (b * (1 - b)))) as [n large]. exists n. intros y.
    replace (norm real_line (sub real_line (G (y n)) (y n))) with 1.
    2: { simpl. unfold sub; simpl. unfold G. replace (y n + 1 + - y n) with 1 by ring. rewrite Rabs_R1. ring. }
    rewrite pow1, plus_INR. simpl (INR 1). pose proof (pos_INR n) as n0. pose proof (Rle_abs C).
    apply Rmult_lt_compat_r with (r := b * (1 - b)) in large; [|exact positive].
    replace (Rabs C / (b * (1 - b)) * (b * (1 - b))) with (Rabs C) in large by (field; lra).
    assert (pos : 0 < b * (1 - b) * (INR n + 1)) by (apply Rmult_lt_0_compat; lra).
    apply Rmult_lt_reg_r with (1 := pos).
    replace (C / (b * (1 - b) * (INR n + 1)) * (b * (1 - b) * (INR n + 1))) with C by (field; lra). lra.
Qed.

(** T5 (a): with b > 1 its constant is wrong: -y/2 has m = 0 and L = 1/2, and b = 3/2 expands. *)
Theorem trap_over_relaxed : let G := fun y : point real_line => - (1 / 2) * y in
  lipschitz (metric real_line) (fun _ => True) (1 / 2) G
  /\ (forall y z, inner real_line (sub real_line (G y) (G z)) (sub real_line y z)
        <= 0 * norm real_line (sub real_line y z) ^ 2)
  /\ 3 / 2 < 2 * (1 - 0) / (1 - 2 * 0 + (1 / 2) ^ 2)
  /\ (1 - 3 / 2) ^ 2 + 2 * (3 / 2) * (1 - 3 / 2) * 0 + (3 / 2) ^ 2 * (1 / 2) ^ 2 < 1
  /\ forall q, q < 1 -> ~ lipschitz (metric real_line) (fun _ => True) q (damped_map real_line (3 / 2) G).
Proof.
  intros G. split; [|split; [|split; [|split]]].
  - intros y z _ _. simpl. unfold sub; simpl. unfold G.
    replace (- (1 / 2) * y + - (- (1 / 2) * z)) with (- (1 / 2) * (y + - z)) by ring.
    rewrite Rabs_mult, Rabs_left by lra. lra.
  - intros y z. simpl. unfold sub; simpl. unfold G. pose proof (Rle_0_sqr (y + - z)) as s. unfold Rsqr in s. nra.
  - lra.
  - lra.
  - intros q below. apply (@refute_points (metric real_line) _ _ (0 : point real_line) (1 : point real_line));
      [exact I | exact I | exact (Rlt_not_eq _ _ Rlt_0_1) | | exact below].
    simpl. unfold sub, damped_map, G; simpl.
    replace (0 + - (1)) with (- (1)) by ring.
    replace ((1 - 3 / 2) * 0 + 3 / 2 * (- (1 / 2) * 0) + - ((1 - 3 / 2) * 1 + 3 / 2 * (- (1 / 2) * 1))) with
      (5 / 4) by field.
    rewrite Rabs_Ropp, Rabs_R1, Rabs_right; lra.
Qed.

Definition softplus (y : R) : R := ln (1 + exp y).

(** T5 (b): slopes that are below 1 at every point, but not uniformly, leave softplus without an equilibrium. *)
Theorem trap_softplus :
  (forall y, derivable_pt_lim softplus y (sigmoid y)) /\ (forall y, 0 < sigmoid y < 1) /\ forall y, softplus y <> y.
Proof.
  split; [|split].
  - intros y. pose proof (exp_pos y) as e. unfold softplus.
    replace (sigmoid y) with (/ (1 + exp y) * (0 + exp y)).
    + apply (derivable_pt_lim_comp (fun x => 1 + exp x) ln).
      * apply derivable_pt_lim_plus; [apply derivable_pt_lim_const | apply derivable_pt_lim_exp].
      * apply derivable_pt_lim_ln. lra.
    + unfold sigmoid. rewrite exp_Ropp. field. lra.
  - intros y. unfold sigmoid. pose proof (exp_pos (- y)). split; [apply Rinv_0_lt_compat; lra|].
    apply Rmult_lt_reg_l with (1 + exp (- y)); [lra|]. rewrite Rinv_r; lra.
  - intros y same. pose proof (exp_pos y). assert (ln (exp y) < softplus y) by (apply ln_increasing; lra).
    rewrite ln_exp in *. lra.
Qed.
